"""Training with Stable-Baselines3: phi_0 over a whole family, and an expert phi* on one task."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from metamap_agents.experts.distillation import Distillation, Distilled, distil
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.gains import Found, GainSearch, search_gains
from metamap_agents.experts.off_policy import Trained, train_teacher
from metamap_agents.experts.ppo import OnPolicy, OnProgress, learn, make_ppo
from metamap_agents.experts.recipes import Recipe
from metamap_agents.experts.universal import Parent, ToldVecEnv, coordinate_scales, untold
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import (
    EVALUATION_SEED,
    clearly_better,
    evaluate_policies,
    random_returns,
    run_episodes,
)
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import global_generators_kept, torch_threads
from metamap_agents.sb3.bridge import (
    critic_from_sb3,
    critic_into_sb3,
    log_std_from_sb3,
    log_std_into_sb3,
    phi_from_sb3,
    phi_into_sb3,
    spec_from_sb3,
)
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["Tuned", "train_base", "train_expert", "train_parent", "tune"]

_NO_CLIP = 1e9  # VecNormalize clips; our normaliser is affine, so that it folds into the first layer
_SMALLEST_STD = 1e-3  # floor for observations that never move
_EVALUATION_EPISODES = 10
_SCALE_TASKS = 1024  # over which what a parent is told is standardised
_TORCH_THREADS = 1  # networks are small: more threads gain nothing idle, and lose tenfold when cores are shared


def _record(recipe: Recipe, seed: int, steps: int, seconds: float) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "steps": steps,
        "seconds": round(seconds, 3),
        "torch_threads": _TORCH_THREADS,
        "versions": library_versions(),
    }


def train_base(
    family_name: str,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 0,
    on_progress: OnProgress | None = None,
) -> BasePolicy:
    """Train phi_0 by domain randomisation: each of ``recipe.n_envs`` environments has its own training task.

    The observation statistics are those of this training, frozen at its end, and are the family's normaliser.

    Args:
        family_name: the family.
        recipe: settings of PPO.
        seed: of tasks, weights and episodes.
        num_threads: of the simulator; 0 takes all cores. Torch always takes one.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: unknown family, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)
    tasks = get_family(family_name).sample("train", recipe.n_envs, seed)
    fast = FamilyVecEnv(tasks, seed, num_threads=num_threads, dtype=np.float32)
    envs = VecNormalize(fast, gamma=recipe.gamma, clip_obs=_NO_CLIP)
    started = time.perf_counter()
    with torch_threads(_TORCH_THREADS), global_generators_kept():
        model = make_ppo(recipe, envs, seed)
        ended = learn(model, recipe, on_progress, f"the base policy of {family_name!r}")
    seconds = time.perf_counter() - started
    statistics = cast(RunningMeanStd, envs.obs_rms)  # a dictionary only for dictionaries of observations
    std = np.sqrt(statistics.var + envs.epsilon)
    return BasePolicy(
        spec=spec_from_sb3(model.policy),
        phi=phi_from_sb3(model.policy),
        normalizer=ObservationNormalizer(statistics.mean, np.maximum(std, _SMALLEST_STD)),
        log_std=log_std_from_sb3(model.policy),
        critic=critic_from_sb3(model.policy),
        record={"family": family_name, **_record(recipe, seed, model.num_timesteps, seconds), **ended},
    )


def train_expert(
    task: Task,
    base: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    start: NDArray[np.float32] | None = None,
    parent: Parent | None = None,
    num_threads: int = 1,
    on_progress: OnProgress | None = None,
    on_policy: OnPolicy | None = None,
) -> Expert:
    """Fine-tune a policy on one task with PPO, so that phi* stays in the basin of where it started.

    Where the recipe names another algorithm, that trains a teacher, and what is fine-tuned is its student.

    Args:
        task: the task.
        base: gives normaliser, critic and, unless ``start`` or ``parent`` is given, the first weights. The action noise
            starts at the recipe's ``log_std_init``.
        recipe: settings of PPO, and whether it follows on a parent's policy; its network must be the base policy's.
        seed: of weights, noise and episodes.
        start: other weights to start from, float32 [P]; the parent is then not looked at.
        parent: where its policy for the task, with the gains that the recipe's ``gain_search`` finds, is the start.
        num_threads: of the simulator; 0 takes all cores. Torch always takes one.
        on_progress: see `OnProgress`.
        on_policy: see `OnPolicy`; it sees the first weights too, and one may stop the training when they are good.

    Raises:
        MetaMapError: the recipe's network is not the base policy's, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)
    if recipe.algorithm != "ppo":
        if on_policy is not None:
            raise MetaMapError(f"on_policy watches PPO; the recipe's algorithm is {recipe.algorithm!r}")
        return _train_student(task, base, recipe, seed, start, num_threads, on_progress)
    started = time.perf_counter()
    ours: Recipe | None = recipe
    critic, steps, more = base.critic, 0, {}
    if start is not None:
        parent = None
    if parent is not None:
        start, critic = parent.phi_for(task), parent.critic_for(task)
        ours = recipe.after_parent(task)
        if recipe.gain_search is not None:
            found = _search(task, start, base, recipe.gain_search, parent, seed, num_threads)
            start, steps = found.phi, found.steps
            more = {"gains": found.gains.tolist(), "search_steps": found.steps}
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
        steps += tuned.steps
        more |= tuned.record
    record = _record(recipe, seed, steps, time.perf_counter() - started)
    return _evaluated(task, phi, base, num_threads, record | more)


@dataclass(frozen=True)
class Tuned:
    """What PPO on one task came to.

    Attributes:
        phi: the actor's weights, float32 [P], on normalised observations.
        steps: environment steps that it took.
        record: whether it stopped on a plateau, where the recipe has one.
    """

    phi: NDArray[np.float32]
    steps: int
    record: dict[str, Any] = field(default_factory=dict)


def tune(
    task: Task,
    start: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 1,
    on_progress: OnProgress | None = None,
    on_policy: OnPolicy | None = None,
) -> Tuned:
    """Train a policy on one task with PPO; nothing is measured.

    Args:
        task: the task.
        start: first weights of actor and critic, and the normaliser. Without a critic SB3 draws a new one. The action
            noise starts at the recipe's ``log_std_init``.
        recipe: settings of PPO; its network must be that of ``start``.
        seed: of noise, episodes and, where there is none, the critic.
        num_threads: of the simulator; 0 takes all cores. Torch always takes one.
        on_progress: see `OnProgress`.
        on_policy: see `OnPolicy`.

    Raises:
        MetaMapError: the recipe's network is another, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)
    fast = FamilyVecEnv([task] * recipe.n_envs, seed, start.normalizer, num_threads, np.float32)
    envs = VecNormalize(fast, norm_obs=False, gamma=recipe.gamma)
    with torch_threads(_TORCH_THREADS), global_generators_kept():
        model = make_ppo(recipe, envs, seed)
        if spec_from_sb3(model.policy) != start.spec:
            raise MetaMapError(f"the expert's network must be the base policy's {start.spec}")
        phi_into_sb3(model.policy, start.phi)
        if start.critic:
            critic_into_sb3(model.policy, start.critic)
        log_std_into_sb3(model.policy, np.full_like(start.log_std, recipe.policy_kwargs.log_std_init))
        ended = learn(model, recipe, on_progress, f"on {task.id} ({task.describe()})", on_policy)
        phi = phi_from_sb3(model.policy)
    envs.close()
    return Tuned(phi, model.num_timesteps, ended)


def _train_student(
    task: Task,
    base: BasePolicy,
    recipe: Recipe,
    seed: int,
    start: NDArray[np.float32] | None,
    num_threads: int,
    on_progress: OnProgress | None,
) -> Expert:
    """An expert that learnt from a teacher of another shape."""
    started = time.perf_counter()
    with torch_threads(_TORCH_THREADS), global_generators_kept():
        teacher = train_teacher(
            task, base.normalizer, recipe, seed=seed, num_threads=num_threads, on_progress=on_progress
        )
        settings = recipe.distillation or Distillation()
        student = distil(task, base, teacher.act, settings, seed=seed, start=start, num_threads=num_threads)
    record = _record(recipe, seed, teacher.steps + student.steps, time.perf_counter() - started)
    expert = _evaluated(task, student.phi, base, num_threads, record)
    return replace(expert, record=record | _compared(expert, teacher, student, num_threads))


def _compared(expert: Expert, teacher: Trained, student: Distilled, num_threads: int) -> dict[str, Any]:
    """What the record of a student says of its teacher."""
    of_teacher = run_episodes(
        [expert.task],
        lambda observations: teacher.act(observations[0])[None],
        _EVALUATION_EPISODES,
        EVALUATION_SEED,
        num_threads=num_threads,
    ).returns[0]
    return {
        "teacher": {"return": float(of_teacher.mean()), "returns": of_teacher.tolist(), "steps": teacher.steps},
        "student": {
            "return": float(expert.returns.mean()),
            "steps": student.steps,
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
    parent: Parent,
    seed: int,
    num_threads: int,
) -> Found:
    """Gains on a parent's policy; it is enough to come near what the policy does on the parent's own task."""
    own = parent.own_task(task)
    least = float(random_returns([own], num_threads=num_threads).mean())
    good = evaluate_policies([own], base.policies(phi), episodes=_EVALUATION_EPISODES, num_threads=num_threads).returns
    enough = least + settings.enough * (float(good.mean()) - least)
    return search_gains(task, phi, base, settings, seed=seed, enough=enough, num_threads=num_threads)


def train_parent(
    family_name: str,
    base: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 0,
    on_progress: OnProgress | None = None,
) -> Parent:
    """Train the policy that experts are made from; see `metamap_agents.experts.universal`.

    Each of ``recipe.n_envs`` environments has its own training task, whose told coordinates stand beside its
    observations; discrete parameters (signs) that it is not told are at their defaults. To those that are continuous
    it becomes robust, so that it asks of no actuator what a weaker one cannot give.

    Args:
        family_name: the family.
        base: gives the normaliser and, where the recipe says ``start: base``, the first weights; its network must be
            the recipe's but for what is told.
        recipe: settings of PPO, and what is told.
        seed: of tasks, weights and episodes.
        num_threads: of the simulator; 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: unknown family or told parameter, another network, or training ended in weights that are not
            finite.
    """
    seed = read_seed(seed)
    family = get_family(family_name)
    told = family.space.names if recipe.told == "all" else recipe.told
    mean, std = coordinate_scales(family, told, family.sample("train", _SCALE_TASKS, seed))
    kept = {parameter.name for parameter in family.space.parameters if parameter.choices} - set(told)
    tasks = [
        family.task({name: value for name, value in task.parameters if name not in kept})
        for task in family.sample("train", recipe.n_envs, seed)
    ]
    spec = replace(base.spec, observation_size=base.spec.observation_size + len(mean))
    blank = Parent(family_name, told, spec, np.zeros(spec.size, np.float32), mean, std)
    fast = FamilyVecEnv(tasks, seed, base.normalizer, num_threads, np.float32)
    envs = VecNormalize(ToldVecEnv(fast, blank.coordinates(tasks)), norm_obs=False, gamma=recipe.gamma)
    started = time.perf_counter()
    with torch_threads(_TORCH_THREADS), global_generators_kept():
        model = make_ppo(recipe, envs, seed)
        if spec_from_sb3(model.policy) != spec:
            raise MetaMapError(f"the parent's network must be the base policy's {base.spec}, but for what it is told")
        if recipe.start == "base":
            phi_into_sb3(model.policy, spec.join(untold(base.spec.split(base.phi), len(mean))))
            critic_into_sb3(model.policy, untold(base.critic, len(mean)))
        ended = learn(model, recipe, on_progress, f"the parent policy of {family_name!r}")
    record = _record(recipe, seed, model.num_timesteps, time.perf_counter() - started) | ended
    return replace(blank, phi=phi_from_sb3(model.policy), critic=critic_from_sb3(model.policy), record=record)


def _evaluated(
    task: Task, phi: NDArray[np.float32], base: BasePolicy, num_threads: int, record: dict[str, Any]
) -> Expert:
    """An expert with its returns beside the base policy's."""
    evaluated = evaluate_policies(
        [task, task],
        base.policies(np.stack([phi, base.phi])),
        episodes=_EVALUATION_EPISODES,
        num_threads=num_threads,
    )
    return Expert(task, phi, evaluated.returns[0], evaluated.returns[1], record)
