"""Policy distillation: a student of the family's own network shape imitates a teacher of any shape.

First it learns from states visited by the teacher (behaviour cloning), then from states visited by itself, with the
teacher's actions as labels (DAgger, Ross et al. 2011). It starts from given weights, usually phi_0, so that students of
different teachers stay in one basin and a mapper can learn them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies, run_episodes
from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.seeds import DISTILLATION_CHOICE, DISTILLATION_EPISODES
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT
from metamap_envs.task import Task

__all__ = [
    "Distillation",
    "DistillationResult",
    "OnRound",
    "Teacher",
    "distil",
    "distil_each",
    "fit_each",
    "visited_states",
]

Teacher = Callable[[NDArray[Any]], NDArray[Any]]
"""Actions [N, A] in [-1, 1] for raw observations [N, O]."""

OnRound = Callable[[float], None]
"""Called after the cloning and each round with the students' mean return."""

_CHOICE_EPISODES = 10


class Distillation(BaseModel):
    """Settings of a distillation."""

    model_config = STRICT

    rounds: int = Field(default=4, ge=0)
    """Rounds of DAgger after the cloning; each adds states visited by the student."""
    states: int = Field(default=10_000, ge=1)
    """Number of states of the cloning, and number added by each round."""
    steps: int = Field(default=3_000, ge=1)
    """Updates in each round, over all states so far."""
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of Adam; it decays linearly to zero in each round."""


@dataclass(frozen=True)
class DistillationResult:
    """Result of a distillation: the best student of all rounds.

    Attributes:
        phi: float32 [P], on normalised observations.
        losses: mean squared error of actions over all collected states, after the cloning and each round.
        returns: mean return after the cloning and each round, by which the best student is chosen.
        chosen: round of ``phi``; 0 is the cloning.
        environment_steps: number of environment steps taken.
    """

    phi: NDArray[np.float32]
    losses: tuple[float, ...]
    returns: tuple[float, ...]
    chosen: int
    environment_steps: int


def distil(
    task: Task,
    base: BasePolicy,
    teacher: Teacher,
    settings: Distillation,
    *,
    seed: int,
    start: NDArray[np.float32] | None = None,
    num_threads: int = 1,
    on_round: OnRound | None = None,
) -> DistillationResult:
    """Distil a teacher into a student of the base policy's network shape, on one task.

    Args:
        task: the task.
        base: provides network shape, normaliser and, without ``start``, the initial weights.
        teacher: the policy to imitate.
        settings: see `Distillation`.
        seed: of batches and of the choice of states; the initial states of episodes do not depend on it.
        start: other initial weights, float32 [P].
        num_threads: threads of the simulator; 0 takes all cores.
        on_round: see `OnRound`.

    Raises:
        MetaMapError: actions of another shape or that are not finite, or a student that diverged.
    """
    starts = None if start is None else start[None]

    def lead(observations: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(_asked(teacher, observations[0], base.spec.action_size))[None]

    return distil_each(
        [task], base, lead, settings, seeds=[seed], starts=starts, num_threads=num_threads, on_round=on_round
    )[0]


def distil_each(
    tasks: Sequence[Task],
    base: BasePolicy,
    teachers: Teacher,
    settings: Distillation,
    *,
    seeds: Sequence[int],
    starts: NDArray[np.float32] | None = None,
    num_threads: int = 1,
    on_round: OnRound | None = None,
) -> list[DistillationResult]:
    """Distil a teacher for each of T tasks into a student of its own, all at once: T small networks in one product.

    Args:
        tasks: T tasks of one family.
        base: provides network shape, normaliser and, without ``starts``, the initial weights.
        teachers: actions [T, N, A] in [-1, 1] of each task's teacher for raw observations [T, N, O].
        settings: see `Distillation`.
        seeds: of batches and of the choice of states, one for each task.
        starts: other initial weights, float32 [T, P].
        num_threads: threads of the simulator; 0 takes all cores.
        on_round: see `OnRound`.

    Raises:
        MetaMapError: actions that are not finite, or a student that diverged.
    """
    generators = [np.random.default_rng(read_seed(seed)) for seed in seeds]
    first = np.tile(base.phi, (len(tasks), 1)) if starts is None else starts
    weights = torch.tensor(first, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    seen: list[NDArray[np.float32]] = []
    phis, losses, returns = [], [], []
    act, steps = teachers, np.zeros(len(tasks), np.int64)
    for round_ in range(settings.rounds + 1):
        states, taken = visited_states(tasks, act, settings.states, round_, generators, num_threads)
        seen.append(states)
        visited = np.concatenate(seen, axis=1)
        inputs = torch.from_numpy(base.normalizer.apply(visited).astype(np.float32))
        targets = torch.from_numpy(_finite(teachers(visited)))
        losses.append(fit_each(weights, optimizer, base.spec, inputs, targets, settings, generators))
        phis.append(weights.detach().numpy().copy())
        act = BatchedPolicy(base.policies(phis[-1]))
        tried = evaluate_policies(
            tasks,
            base.policies(phis[-1]),
            episodes=_CHOICE_EPISODES,
            seed=DISTILLATION_CHOICE,
            num_threads=num_threads,
        )
        returns.append(tried.returns.mean(axis=1))
        steps += taken + tried.lengths.sum(axis=1)
        if on_round is not None:
            on_round(float(returns[-1].mean()))
    chosen = np.argmax(returns, axis=0)
    return [
        DistillationResult(
            phis[best][index],
            tuple(float(loss[index]) for loss in losses),
            tuple(float(mean[index]) for mean in returns),
            int(best),
            int(steps[index]),
        )
        for index, best in enumerate(chosen)
    ]


def visited_states(
    tasks: Sequence[Task],
    act: Teacher,
    count: int,
    round_: int,
    generators: Sequence[np.random.Generator],
    num_threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Raw observations [T, count, O] visited by policies, one for each task, and the environment steps taken [T].

    Args:
        tasks: T tasks of one family.
        act: actions [T, N, A] for raw observations [T, N, O].
        count: states of each task.
        round_: number of the round, on which the reset seeds depend.
        generators: of the choice of states, one for each task.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    episodes = math.ceil(count / get_family(tasks[0].family).horizon)
    found: list[list[NDArray[np.float32]]] = [[] for _ in tasks]
    runs = 0
    while min(sum(map(len, rows)) for rows in found) < count:  # episodes that end early make more of them necessary
        first = DISTILLATION_EPISODES + round_ * count + runs * episodes  # no round needs more episodes than states
        run = run_episodes(tasks, act, episodes, first, num_threads=num_threads, record=True)
        assert run.observations is not None
        alive = np.arange(run.observations.shape[2]) < run.lengths[..., None]
        for rows, observations, counts in zip(found, run.observations, alive, strict=True):
            rows.append(observations[counts])
        runs += 1
    visited = [np.concatenate(rows) for rows in found]
    steps = np.array([len(rows) for rows in visited])
    chosen = [
        rows[generator.choice(len(rows), count, replace=False)]
        for rows, generator in zip(visited, generators, strict=True)
    ]
    return np.stack(chosen), steps


def _asked(teacher: Teacher, observations: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Actions of a teacher that somebody else wrote, whose shape is checked."""
    actions = np.asarray(teacher(observations), dtype=np.float32)
    if actions.shape != (len(observations), size):
        raise MetaMapError(f"teacher: expected actions of shape ({len(observations)}, {size}), got {actions.shape}")
    return _finite(actions)


def _finite(actions: NDArray[Any]) -> NDArray[np.float32]:
    if not np.isfinite(actions).all():
        raise MetaMapError("teacher: expected finite actions, got NaN or infinity")
    return np.asarray(actions, dtype=np.float32)


def fit_each(
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    spec: PolicySpec,
    inputs: Tensor,
    targets: Tensor,
    settings: Distillation,
    generators: Sequence[np.random.Generator],
) -> NDArray[np.float32]:
    """Update the weights [T, P] in place; return the mean squared error of each over all its states [T]."""
    place = torch.arange(len(weights))[:, None]
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 - step / settings.steps)
        drawn = [generator.integers(inputs.shape[1], size=settings.batch_size) for generator in generators]
        rows = torch.from_numpy(np.stack(drawn))
        errors = (forward(spec, weights, inputs[place, rows]) - targets[place, rows]).square()
        optimizer.zero_grad()
        errors.mean(dim=(1, 2)).sum().backward()  # type: ignore[no-untyped-call]  # a gradient of its own for each
        optimizer.step()
    with torch.no_grad():
        error: NDArray[np.float32] = (forward(spec, weights, inputs) - targets).square().mean(dim=(1, 2)).numpy()
    if not np.isfinite(error).all():
        raise MetaMapError("distillation diverged, the weights are not finite: lower distillation.learning_rate")
    return error
