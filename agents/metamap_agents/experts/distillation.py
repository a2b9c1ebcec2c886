"""Policy distillation: a student of the family's own network shape imitates a teacher of any shape.

First it learns from states visited by the teacher (behaviour cloning), then from states visited by itself, with the
teacher's actions as labels (DAgger, Ross et al. 2011). It starts from given weights, usually phi_0, so that students of
different teachers stay in one basin and a mapper can learn them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from metamap_agents.runtime.seeds import DISTILLATION_CHOICE, DISTILLATION_EPISODES
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT
from metamap_envs.task import Task

__all__ = ["Distillation", "DistillationResult", "Teacher", "distil"]

Teacher = Callable[[NDArray[Any]], NDArray[Any]]
"""Actions [N, A] in [-1, 1] for raw observations [N, O]."""

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

    Raises:
        MetaMapError: actions of another shape or that are not finite, or a student that diverged.
    """
    seed = read_seed(seed)
    weights = torch.tensor(base.phi if start is None else start, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    generator = np.random.default_rng(seed)
    seen: list[NDArray[np.float32]] = []
    phis, losses, returns = [], [], []
    asked = _checked(teacher, base.spec.action_size)
    act, steps = asked, 0
    for round_ in range(settings.rounds + 1):
        states, taken = _visited(task, act, settings.states, round_, generator, num_threads)
        seen.append(states)
        visited = np.concatenate(seen)
        inputs = torch.from_numpy(base.normalizer.apply(visited))
        targets = torch.from_numpy(asked(visited))
        losses.append(_fit(weights, optimizer, base, inputs, targets, settings, generator))
        phis.append(weights.detach().numpy().copy())
        act = _acting(base, phis[-1])
        tried = evaluate_policies(
            [task],
            base.policies(phis[-1]),
            episodes=_CHOICE_EPISODES,
            seed=DISTILLATION_CHOICE,
            num_threads=num_threads,
        )
        returns.append(float(tried.returns.mean()))
        steps += taken + int(tried.lengths.sum())
    chosen = int(np.argmax(returns))
    return DistillationResult(phis[chosen], tuple(losses), tuple(returns), chosen, steps)


def _visited(
    task: Task, act: Teacher, count: int, round_: int, generator: np.random.Generator, num_threads: int
) -> tuple[NDArray[np.float32], int]:
    """Raw observations [count, O] visited by a policy, and the number of environment steps taken."""
    episodes = math.ceil(count / get_family(task.family).horizon)
    found: list[NDArray[np.float32]] = []
    while sum(map(len, found)) < count:  # episodes that end early make more of them necessary
        first = (
            DISTILLATION_EPISODES + round_ * count + len(found) * episodes
        )  # no round needs more episodes than states
        run = run_episodes([task], _lead(act), episodes, first, num_threads=num_threads, record=True)
        assert run.observations is not None
        alive = np.arange(run.observations.shape[2]) < run.lengths[0][:, None]
        found.append(run.observations[0][alive])
    visited = np.concatenate(found)
    return visited[generator.choice(len(visited), count, replace=False)], len(visited)


def _lead(act: Teacher) -> Teacher:
    """The same for observations [1, E, O], as `run_episodes` passes them."""
    return lambda observations: act(observations[0])[None]


def _acting(base: BasePolicy, phi: NDArray[np.float32]) -> Teacher:
    policy = BatchedPolicy(base.policies(phi[None]))
    return lambda observations: policy(observations[None])[0]


def _checked(teacher: Teacher, size: int) -> Teacher:
    """A teacher whose actions are checked."""

    def act(observations: NDArray[Any]) -> NDArray[np.float32]:
        actions = np.asarray(teacher(observations), dtype=np.float32)
        if actions.shape != (len(observations), size):
            raise MetaMapError(f"teacher: expected actions of shape ({len(observations)}, {size}), got {actions.shape}")
        if not np.isfinite(actions).all():
            raise MetaMapError("teacher: expected finite actions, got NaN or infinity")
        return actions

    return act


def _fit(
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    base: BasePolicy,
    inputs: Tensor,
    targets: Tensor,
    settings: Distillation,
    generator: np.random.Generator,
) -> float:
    """Update the weights in place; return the mean squared error over all states at the end."""
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 - step / settings.steps)
        rows = torch.from_numpy(generator.integers(len(inputs), size=settings.batch_size))
        loss = (forward(base.spec, weights, inputs[rows]) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        error = float((forward(base.spec, weights, inputs) - targets).square().mean())
    if not math.isfinite(error):
        raise MetaMapError("distillation diverged, the weights are not finite: lower distillation.learning_rate")
    return error
