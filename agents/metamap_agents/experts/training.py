"""Training with Stable-Baselines3: phi_0 over a whole family, and an expert phi* on one task."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from metamap_agents.experts.changes import TaskDraw, training_envs, wrong_experts, wrong_gains, wrong_starts
from metamap_agents.experts.distillation import Distillation, DistillationResult, distil
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.fine_tuning import tune
from metamap_agents.experts.gains import GainSearch, GainSearchResult, search_gains
from metamap_agents.experts.off_policy import TrainedTeacher, train_teacher
from metamap_agents.experts.ppo import OnPolicy, OnProgress, learn, make_ppo
from metamap_agents.experts.recipes import Recipe
from metamap_agents.experts.starting import cloned, record_of
from metamap_agents.experts.universal import UniversalPolicy, blank_universal, with_zero_inputs
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import (
    clearly_better,
    evaluate_policies,
    random_returns,
    run_episodes,
)
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.renamed import renamed_keywords
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import TRAINING_THREADS, isolated_training
from metamap_agents.sb3.bridge import (
    critic_from_sb3,
    critic_into_sb3,
    log_std_from_sb3,
    phi_from_sb3,
    phi_into_sb3,
    spec_from_sb3,
)
from metamap_agents.sb3.conditioned import ConditionedVecEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["train_base", "train_expert", "train_universal"]

_NO_CLIP = 1e9  # VecNormalize clips; our normaliser is affine, so that it folds into the first layer
_SMALLEST_STD = 1e-3  # floor for observations that never move
_EVALUATION_EPISODES = 10


def _record(recipe: Recipe, seed: int, steps: int, seconds: float) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "steps": steps,
        "seconds": round(seconds, 3),
        "torch_threads": TRAINING_THREADS,
        "versions": library_versions(),
    }


def train_base(
    family_name: str,
    recipe: Recipe,
    *,
    seed: int,
    kept: frozenset[str] = frozenset(),
    num_threads: int = 0,
    on_progress: OnProgress | None = None,
) -> BasePolicy:
    """Train the base policy phi_0 by domain randomisation: each of ``recipe.n_envs`` environments has its own task.

    The observation statistics at the end of this training become the family's frozen normaliser.

    Args:
        family_name: the family.
        recipe: settings of PPO.
        seed: of tasks, weights and episodes.
        kept: parameters that stay at their defaults; with all of them it is a policy of the unchanged robot.
        num_threads: threads of the simulator; 0 takes all cores. Torch always uses one.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: unknown family, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)
    draw = TaskDraw(family_name, kept)
    started = time.perf_counter()
    clone = cloned(recipe, draw, seed=seed, num_threads=num_threads)
    frozen = _plain(family_name) if clone is None else clone.normalizer
    fast = training_envs(draw(recipe.n_envs, seed), recipe.changes, draw, seed, frozen, num_threads, recipe.horizon)
    envs = VecNormalize(fast, norm_obs=frozen is None, gamma=recipe.gamma, clip_obs=_NO_CLIP)
    with isolated_training():
        model = make_ppo(recipe, envs, seed)
        spec = spec_from_sb3(model.policy)
        if clone is not None:
            phi_into_sb3(model.policy, clone.phi)
        wrong = wrong_gains(lambda phi: Policies(spec, frozen or _normalizer(envs), phi))
        starts = wrong_starts(fast, recipe.changes, draw, wrong, seed, num_threads)
        ended = learn(model, recipe, on_progress, f"the base policy of {family_name!r}", starts) | record_of(clone)
    seconds = time.perf_counter() - started
    return BasePolicy(
        spec=spec,
        phi=phi_from_sb3(model.policy),
        normalizer=frozen or _normalizer(envs),
        log_std=log_std_from_sb3(model.policy),
        critic=critic_from_sb3(model.policy),
        record={"family": family_name, **_record(recipe, seed, model.num_timesteps, seconds), **ended},
    )


def _plain(family_name: str) -> ObservationNormalizer | None:
    """The normaliser of a family that changes nothing, where sensors change places; None for any other."""
    family = get_family(family_name)
    if not family.sensor_parameters:
        return None
    return ObservationNormalizer(np.zeros(family.observation_size), np.ones(family.observation_size))


def _normalizer(envs: VecNormalize) -> ObservationNormalizer:
    """Normaliser of the observations so far."""
    statistics = cast(RunningMeanStd, envs.obs_rms)  # a dictionary only for dictionaries of observations
    std = np.sqrt(statistics.var + envs.epsilon)
    return ObservationNormalizer(statistics.mean, np.maximum(std, _SMALLEST_STD))


@renamed_keywords(parent="start")
def train_expert(
    task: Task,
    base: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    start: NDArray[np.float32] | UniversalPolicy | None = None,
    num_threads: int = 1,
    on_progress: OnProgress | None = None,
    on_policy: OnPolicy | None = None,
) -> Expert:
    """Fine-tune a policy on one task with PPO, so that phi* stays in the basin of its initial weights.

    Where the recipe names an off-policy algorithm, that algorithm trains a teacher, and the expert is a student
    distilled from it.

    Args:
        task: the task.
        base: provides the normaliser, the critic and, without ``start``, the initial weights. The standard deviation
            of the action noise starts at the recipe's ``log_std_init``.
        recipe: settings of the training; its network must be the base policy's. With ``start: random`` actor and critic
            are drawn anew, and only the normaliser is the base policy's.
        seed: of weights, noise and episodes.
        start: other initial weights, float32 [P]; or a universal policy, whose weights for the task are the initial
            ones: with the gains that the recipe's ``gain_search`` finds, or without one those of `expert_for`.
        num_threads: threads of the simulator; 0 takes all cores. Torch always uses one.
        on_progress: see `OnProgress`.
        on_policy: see `OnPolicy`; it is called with the initial weights too.

    Raises:
        MetaMapError: the recipe's network is not the base policy's, weights of another shape, a universal policy or
            ``on_policy`` with an off-policy algorithm, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)
    if recipe.algorithm != "ppo":
        if on_policy is not None:
            raise MetaMapError(f"on_policy: expected a recipe with algorithm 'ppo', got {recipe.algorithm!r}")
        if isinstance(start, UniversalPolicy):
            raise MetaMapError(f"start: expected weights with algorithm {recipe.algorithm!r}, got a universal policy")
        return _train_student(task, base, recipe, seed, start, num_threads, on_progress)
    started = time.perf_counter()
    ours: Recipe | None = recipe
    critic, steps, more = base.critic, 0, {}
    if isinstance(start, UniversalPolicy):
        phi, critic = start.expert_for(task), start.critic_for(task)
        ours = recipe.after_universal(task)
        if recipe.gain_search is not None:
            plain = start.phi_for(task)
            found = _search(task, plain, base, recipe.gain_search, start, seed, num_threads)
            phi, steps = found.phi, found.environment_steps
            more = {"gains": found.gains.tolist(), "search_steps": steps}
    elif start is None and recipe.start == "random":
        phi, critic = random_actor(base.spec, seed), {}
    else:
        phi = base.phi if start is None else start
    if phi.shape != base.phi.shape:
        raise MetaMapError(f"phi: expected shape {base.phi.shape}, got {phi.shape}")
    if ours is not None:
        tuned = tune(
            task,
            replace(base, phi=phi, critic=critic),
            ours,
            seed=seed,
            num_threads=num_threads,
            on_progress=on_progress,
            on_policy=on_policy,
        )
        phi = tuned.phi
        steps += tuned.environment_steps
        more |= tuned.record
    record = _record(recipe, seed, steps, time.perf_counter() - started)
    return _evaluated(task, phi, base, num_threads, record | more)


def _train_student(
    task: Task,
    base: BasePolicy,
    recipe: Recipe,
    seed: int,
    start: NDArray[np.float32] | None,
    num_threads: int,
    on_progress: OnProgress | None,
) -> Expert:
    """Train an expert by distillation from an off-policy teacher."""
    started = time.perf_counter()
    with isolated_training():
        teacher = train_teacher(
            task, base.normalizer, recipe, seed=seed, num_threads=num_threads, on_progress=on_progress
        )
        settings = recipe.distillation or Distillation()
        student = distil(task, base, teacher.act, settings, seed=seed, start=start, num_threads=num_threads)
    record = _record(recipe, seed, teacher.environment_steps + student.environment_steps, time.perf_counter() - started)
    expert = _evaluated(task, student.phi, base, num_threads, record)
    return replace(expert, record=record | _compared(expert, teacher, student, num_threads))


def _compared(expert: Expert, teacher: TrainedTeacher, student: DistillationResult, num_threads: int) -> dict[str, Any]:
    """Part of an expert's record that compares student and teacher."""
    of_teacher = run_episodes(
        [expert.task],
        lambda observations: teacher.act(observations[0])[None],
        _EVALUATION_EPISODES,
        EVALUATION_SEED,
        num_threads=num_threads,
    ).returns[0]
    return {
        "teacher": {
            "return": float(of_teacher.mean()),
            "returns": of_teacher.tolist(),
            "steps": teacher.environment_steps,
        },
        "student": {
            "return": float(expert.returns.mean()),
            "steps": student.environment_steps,
            "losses": list(student.losses),
            "round_returns": list(student.returns),
            "round": student.chosen,
        },
        "worse_than_teacher": clearly_better(of_teacher, expert.returns),
    }


def _search(
    task: Task,
    phi: NDArray[np.float32],
    base: BasePolicy,
    settings: GainSearch,
    universal: UniversalPolicy,
    seed: int,
    num_threads: int,
) -> GainSearchResult:
    """Search gains until the return is near that of the universal policy on its own task."""
    own = universal.own_task(task)
    least = float(random_returns([own], num_threads=num_threads).mean())
    good = evaluate_policies([own], base.policies(phi), episodes=_EVALUATION_EPISODES, num_threads=num_threads).returns
    enough = least + settings.enough * (float(good.mean()) - least)
    return search_gains(task, phi, base, settings, seed=seed, enough=enough, num_threads=num_threads)


def train_universal(
    family_name: str,
    base: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 0,
    on_progress: OnProgress | None = None,
) -> UniversalPolicy:
    """Train the universal policy of a family, from which experts start; see `metamap_agents.experts.universal`.

    Each of ``recipe.n_envs`` environments has its own training task. The coordinates of the parameters in
    ``recipe.told`` are appended to its observations. Of the other parameters, discrete ones (signs) are at their
    defaults and continuous ones vary, so that the policy becomes robust to them.

    Args:
        family_name: the family.
        base: provides the normaliser and, with ``start: base`` in the recipe, the initial weights; its network must be
            the recipe's, except for the additional inputs.
        recipe: settings of PPO, and the parameters that the policy is conditioned on.
        seed: of tasks, weights and episodes.
        num_threads: threads of the simulator; 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: unknown family or parameter, another network, or training ended in weights that are not
            finite.
    """
    seed = read_seed(seed)
    family = get_family(family_name)
    names = family.space.names if recipe.told == "all" else recipe.told
    kept = {parameter.name for parameter in family.space.parameters if parameter.choices} - set(names)
    draw = TaskDraw(family_name, frozenset(kept))
    blank = blank_universal(family_name, names, base.spec, seed)
    spec, inputs = blank.spec, len(blank.mean)
    fast = training_envs(
        draw(recipe.n_envs, seed), recipe.changes, draw, seed, base.normalizer, num_threads, recipe.horizon
    )
    envs = VecNormalize(ConditionedVecEnv(fast, blank.coordinates), norm_obs=False, gamma=recipe.gamma)
    starts = wrong_starts(fast, recipe.changes, draw, wrong_experts(blank, base.policies), seed, num_threads)
    started = time.perf_counter()
    clone = cloned(recipe, draw, blank, base.normalizer, seed=seed, num_threads=num_threads)
    with isolated_training():
        model = make_ppo(recipe, envs, seed)
        if spec_from_sb3(model.policy) != spec:
            raise MetaMapError(f"recipe: expected the network {spec}, got {spec_from_sb3(model.policy)}")
        if recipe.start == "base":
            phi_into_sb3(model.policy, spec.join(with_zero_inputs(base.spec.split(base.phi), inputs)))
            critic_into_sb3(model.policy, with_zero_inputs(base.critic, inputs))
        if clone is not None:
            phi_into_sb3(model.policy, clone.phi)
        ended = learn(model, recipe, on_progress, f"the universal policy of {family_name!r}", starts) | record_of(clone)
    record = _record(recipe, seed, model.num_timesteps, time.perf_counter() - started) | ended
    return replace(blank, phi=phi_from_sb3(model.policy), critic=critic_from_sb3(model.policy), record=record)


def _evaluated(
    task: Task, phi: NDArray[np.float32], base: BasePolicy, num_threads: int, record: dict[str, Any]
) -> Expert:
    """Evaluate weights and the base policy on a task."""
    evaluated = evaluate_policies(
        [task, task],
        base.policies(np.stack([phi, base.phi])),
        episodes=_EVALUATION_EPISODES,
        num_threads=num_threads,
    )
    return Expert(task, phi, evaluated.returns[0], evaluated.returns[1], record)
