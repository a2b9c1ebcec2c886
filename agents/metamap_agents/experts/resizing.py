"""A zoo's policies in another size: base policy, universal policy and experts, each distilled from the zoo's own.

A policy that must run on a small computer can be much smaller than one that PPO learns well with. One small network
for a whole family has to hold all of its tasks; a small expert holds only one. What is lost at each size is what
``metamap results run deployed-size`` measures.

All small policies are students on states of their own (DAgger, Ross et al. 2011): the small universal policy of the
zoo's universal policy on training tasks, phi_0 of the base policy, and each expert of its expert, from the weights of
the small universal policy for its task, so that small experts stay in one basin and a mapper can learn them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from metamap_agents.experts.changes import TaskDraw
from metamap_agents.experts.distillation import Distillation, distil_each, fit_each, visited_states
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.seeds import DISTILLATION_CHOICE
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import TRAINING_THREADS, isolated_training
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT
from metamap_envs.task import Task

__all__ = ["Resizing", "distil_universal", "resize_zoo"]

_GROUP = 24  # experts distilled together: stored as soon as they are finished
_EPISODES = 10  # that an expert is evaluated in
_CHOICE_EPISODES = 2  # of each task, by which the best round of the universal policy is chosen


class Resizing(BaseModel):
    """Settings of the three distillations."""

    model_config = STRICT

    tasks: int = Field(default=64, ge=1)
    """Training tasks that universal policy and base policy are distilled on."""
    universal: Distillation = Distillation(rounds=15, states=200, steps=5_000, batch_size=512, learning_rate=3e-3)
    """Of the universal policy; states are those of each task in a round."""
    base: Distillation = Distillation(rounds=3, states=200, steps=2_000, batch_size=512, learning_rate=3e-3)
    """Of the base policy, likewise."""
    expert: Distillation = Distillation(rounds=3, states=4_000, steps=1_500, batch_size=256, learning_rate=2e-3)
    """Of each expert."""


OnStage = Callable[[str, int, int], None]
"""Called with (what is being distilled, finished, in total)."""


def resize_zoo(
    zoo: Zoo,
    root: str | Path,
    hidden: Sequence[int],
    settings: Resizing | None = None,
    *,
    num_threads: int = 1,
    on_stage: OnStage | None = None,
) -> Zoo:
    """Make, or go on making, a zoo whose policies have other hidden layers than a zoo's; what is there is kept.

    Args:
        zoo: with base policy, universal policy and experts.
        root: folder of the new zoo, which has the same family, seed, tasks and normaliser.
        hidden: units of the hidden layers.
        settings: see `Resizing`.
        num_threads: threads of the simulator; 0 takes all cores.
        on_stage: see `OnStage`.

    Raises:
        MetaMapError: the folder holds another zoo, or one that was made otherwise; the zoo has no universal policy.
    """
    settings, tell = settings or Resizing(), on_stage or (lambda what, done, total: None)
    if not zoo.has_universal:
        raise MetaMapError(f"{zoo.root}: expected a zoo with a universal policy (`--start parent`), it has none")
    spec = replace(zoo.base.spec, hidden=tuple(hidden))
    small = Zoo.create(root, zoo.family.name, zoo.seed)
    about = {"resized": {"hidden": list(hidden), "settings": settings.model_dump(mode="json")}}
    _check(small, about)
    with isolated_training():
        if not small.has_universal:
            tell("universal policy", 0, 1)
            small.put_universal(_universal(zoo, spec, settings, about, num_threads))
        if not small.has_base:
            tell("base policy", 0, 1)
            small.put_base(_base(zoo, small.universal, settings, about, num_threads))
        experts = zoo.experts()
        todo, total = [expert for expert in experts if not small.has(expert.task)], len(experts)
        for start in range(0, len(todo), _GROUP):
            tell("experts", total - len(todo) + start, total)
            for expert in _experts(small, todo[start : start + _GROUP], zoo.base, settings.expert, about, num_threads):
                small.put(expert)
        tell("experts", total, total)
    return small


def distil_universal(
    universal: UniversalPolicy, experts: Sequence[Expert], base: BasePolicy, settings: Distillation, *, seed: int
) -> UniversalPolicy:
    """Distil experts into one policy that is given the task, from random weights on states of its own.

    Args:
        universal: of the same shape and parameters; its weights are not used.
        experts: of training tasks, the teachers.
        base: its normaliser is that of the experts.
        settings: states are those of each task in a round.
        seed: random seed.
    """
    seed = read_seed(seed)
    blank = replace(universal, phi=random_actor(universal.spec, seed), critic={}, record={"distilled": len(experts)})
    teachers = base.policies(np.stack([expert.phi for expert in experts]))
    with isolated_training():
        return _distilled(blank, teachers, [expert.task for expert in experts], settings, seed, 1)


def _check(small: Zoo, about: dict[str, Any]) -> None:
    """Refuse a folder whose policies were made with other settings."""
    made = [small.universal.record] if small.has_universal else []
    made += [small.base.record] if small.has_base else []
    for record in made:
        if record.get("resized") != about["resized"]:
            raise MetaMapError(f"{small.root}: its policies were made with other settings; choose another directory")


def _record(about: dict[str, Any], steps: int, started: float, **more: Any) -> dict[str, Any]:
    seconds = round(time.perf_counter() - started, 3)
    machine = {"torch_threads": TRAINING_THREADS, "versions": library_versions()}
    return {**about, "steps": steps, "seconds": seconds, **machine, **more}


def _universal(
    zoo: Zoo, spec: PolicySpec, settings: Resizing, about: dict[str, Any], num_threads: int
) -> UniversalPolicy:
    """Distil the universal policy on training tasks, with the parameters that it is not given as in its training."""
    large = zoo.universal
    kept = {one.name for one in zoo.family.space.parameters if one.choices} - set(large.parameters)
    tasks = TaskDraw(zoo.family.name, frozenset(kept))(settings.tasks, np.random.default_rng([zoo.seed, 1]))
    wide = replace(spec, observation_size=large.spec.observation_size)
    blank = replace(large, spec=wide, phi=random_actor(wide, zoo.seed), critic={}, record=about)
    teachers = zoo.base.policies(np.stack([large.phi_for(task) for task in tasks]))
    return _distilled(blank, teachers, tasks, settings.universal, zoo.seed, num_threads)


def _base(
    zoo: Zoo, universal: UniversalPolicy, settings: Resizing, about: dict[str, Any], num_threads: int
) -> BasePolicy:
    """Distil the base policy on training tasks, from the small universal policy at the mean task."""
    tasks = zoo.family.sample("train", settings.tasks, np.random.default_rng([zoo.seed, 2]))
    none, start = np.zeros(0, np.float32), universal.mean_phi()
    blank = UniversalPolicy(zoo.family.name, (), universal.base_spec, start, none, none, record=about)
    teachers = zoo.base.policies(np.tile(zoo.base.phi, (len(tasks), 1)))
    made = _distilled(blank, teachers, tasks, settings.base, zoo.seed, num_threads)
    return replace(zoo.base, spec=made.spec, phi=made.phi, critic={}, record=made.record)


def _distilled(
    student: UniversalPolicy,
    teachers: Policies,
    tasks: Sequence[Task],
    settings: Distillation,
    seed: int,
    num_threads: int,
) -> UniversalPolicy:
    """Distil one network for all tasks on its own states; the round with the highest mean return is kept."""
    started, steps = time.perf_counter(), 0
    generators = [np.random.default_rng([seed, index]) for index in range(len(tasks))]
    weights = torch.tensor(student.phi[None], requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    coordinates = student.coordinates(tasks)[:, None]
    teach = act = BatchedPolicy(teachers)
    inputs, targets, students, losses, returns = [], [], [], [], []
    for round_ in range(settings.rounds + 1):
        states, taken = visited_states(tasks, act, settings.states, round_, generators, num_threads)
        seen = teachers.normalizer.apply(states).astype(np.float32)
        beside = np.broadcast_to(coordinates, (*seen.shape[:2], coordinates.shape[2]))
        inputs.append(torch.from_numpy(np.concatenate([seen, beside], axis=2)).flatten(0, 1))
        targets.append(torch.from_numpy(teach(states)).flatten(0, 1))
        rows, wanted = torch.cat(inputs)[None], torch.cat(targets)[None]
        losses.append(float(fit_each(weights, optimizer, student.spec, rows, wanted, settings, generators[:1])[0]))
        students.append(replace(student, phi=weights.detach().numpy()[0].copy()))
        phis = np.stack([students[-1].phi_for(task) for task in tasks])
        policies = Policies(student.base_spec, teachers.normalizer, phis)
        act = BatchedPolicy(policies)
        tried = evaluate_policies(
            tasks, policies, episodes=_CHOICE_EPISODES, seed=DISTILLATION_CHOICE, num_threads=num_threads
        )
        returns.append(float(tried.returns.mean()))
        steps += int(taken.sum() + tried.lengths.sum())
    best = int(np.argmax(returns))
    record = _record(student.record, steps, started, losses=losses, round_returns=returns, round=best)
    return replace(students[best], record=record)


def _experts(
    small: Zoo,
    experts: Sequence[Expert],
    large: BasePolicy,
    settings: Distillation,
    about: dict[str, Any],
    num_threads: int,
) -> Iterator[Expert]:
    """Distil experts, each from the weights of the small universal policy for its task."""
    started, tasks = time.perf_counter(), [expert.task for expert in experts]
    found = distil_each(
        tasks,
        small.base,
        BatchedPolicy(large.policies(np.stack([expert.phi for expert in experts]))),
        settings,
        seeds=[small.expert_seed(task) for task in tasks],
        starts=np.stack([small.universal.expert_for(task) for task in tasks]),
        num_threads=num_threads,
    )
    phis = np.stack([one.phi for one in found] + [small.base.phi] * len(found))
    returns = evaluate_policies(
        [*tasks, *tasks], small.base.policies(phis), episodes=_EPISODES, num_threads=num_threads
    ).returns
    for index, (expert, one) in enumerate(zip(experts, found, strict=True)):
        more = {"losses": list(one.losses), "round": one.chosen, "teacher": {"returns": expert.returns.tolist()}}
        record = _record(about, one.environment_steps, started, **more)
        yield Expert(expert.task, one.phi, returns[index], returns[len(tasks) + index], record)
