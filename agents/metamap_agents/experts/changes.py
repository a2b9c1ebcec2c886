"""Training with changes: tasks change in PPO's episodes, and some episodes start where a wrong policy led.

A robot that has changed in mid-run is soon where no policy of its family was trained: a few steps of the policy for
the task before can put it on its back. So tasks are drawn anew in mid-episode, as RMA does (Kumar et al. 2021,
https://arxiv.org/abs/2107.04034), and episodes start from states that wrong policies reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from metamap_agents.experts.gains import with_gains
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.normalizer import Normalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.changing import ChangingVectorEnv, DrawTasks
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT, Number, Whole
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = [
    "Changes",
    "TaskDraw",
    "WrongPolicies",
    "WrongStarts",
    "both",
    "training_envs",
    "wrong_experts",
    "wrong_gains",
    "wrong_starts",
]

_SNAPSHOTS = 4  # of each environment and refresh
_STREAM = 20_261_130  # keeps these draws apart from others with the same seed

OnPolicy = Callable[[int, NDArray[np.float32]], bool]
WrongPolicies = Callable[[NDArray[np.float32], int, np.random.Generator], Policies]
"""Makes so many wrong policies of the weights that PPO has at present."""


class Changes(BaseModel):
    """Settings of changes in training. Both kinds are off by default."""

    model_config = STRICT

    rate: Number = Field(default=0.0, ge=0, le=1)
    """Probability per step that the task of an environment is drawn anew; RMA's is 0.01. Not for experts, which
    have one task."""
    wrong_starts: Number = Field(default=0.0, ge=0, le=1)
    """Share of the episodes that start from a state, with its task, that a wrong policy reached."""
    wrong_steps: tuple[Whole, Whole] = (20, 150)
    """Fewest and most steps of the wrong policy; where an episode ends before, the next one begins."""
    refresh: Whole = Field(default=10, ge=1)
    """Rollouts of PPO after which wrong policies are made of the present weights and collect new states."""

    @field_validator("wrong_steps")
    @classmethod
    def _check_steps(cls, steps: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= steps[0] <= steps[1]:
            raise ValueError("expected the fewest steps, at least 1, and the most")
        return steps


@dataclass(frozen=True)
class TaskDraw:
    """Draws training tasks, with some parameters at their defaults."""

    family: str
    """Name of the family."""
    kept: frozenset[str] = frozenset()
    """Parameters at their defaults."""

    def __call__(self, count: int, seed: int | np.random.Generator) -> list[Task]:
        """Draw tasks."""
        family = get_family(self.family)
        drawn = family.sample("train", count, seed)
        if not self.kept:
            return drawn
        return [
            family.task({name: value for name, value in task.parameters if name not in self.kept}) for task in drawn
        ]


def wrong_gains(policies: Callable[[NDArray[np.float32]], Policies]) -> WrongPolicies:
    """Wrong policies of one that is given no task: each action times a factor of its own in [-1, 1].

    Args:
        policies: adds what the weights [N, P] need to act.
    """

    def made(phi: NDArray[np.float32], count: int, generator: np.random.Generator) -> Policies:
        spec: PolicySpec = policies(phi).spec
        return policies(with_gains(spec, phi, generator.uniform(-1.0, 1.0, (count, spec.action_size))))

    return made


def wrong_experts(universal: UniversalPolicy, policies: Callable[[NDArray[np.float32]], Policies]) -> WrongPolicies:
    """Wrong policies of a universal one: the experts that it gives for other training tasks.

    Args:
        universal: its other attributes than the weights are used.
        policies: adds what the weights [N, P] of experts need to act.
    """
    draw = TaskDraw(universal.family)

    def made(phi: NDArray[np.float32], count: int, generator: np.random.Generator) -> Policies:
        present = replace(universal, phi=phi)
        return policies(np.stack([present.expert_for(task) for task in draw(count, generator)]))

    return made


def training_envs(
    tasks: Sequence[Task],
    changes: Changes | None,
    draw: DrawTasks,
    seed: int,
    normalizer: Normalizer | None,
    num_threads: int,
    horizon: int | None = None,
) -> FamilyVecEnv:
    """Return environments for PPO, with changes if there are any; see `FamilyVecEnv`."""
    simulator: Callable[..., FamilyVectorEnv] = partial(FamilyVectorEnv, horizon=horizon)
    if changes is not None:
        simulator = partial(
            ChangingVectorEnv,
            draw=draw,
            rate=changes.rate,
            pooled=changes.wrong_starts,
            seed=read_seed(seed),
            horizon=horizon,
        )
    return FamilyVecEnv(tasks, seed, normalizer, num_threads, np.float32, simulator)


def wrong_starts(
    envs: FamilyVecEnv, changes: Changes | None, draw: DrawTasks, wrong: WrongPolicies, seed: int, num_threads: int
) -> WrongStarts | None:
    """Return what fills the pool of environments made by `training_envs`; None where no episode starts from it."""
    seed = read_seed(seed)
    if changes is None or not changes.wrong_starts:
        return None
    return WrongStarts(cast(ChangingVectorEnv, envs.envs), changes, draw, wrong, seed=seed, num_threads=num_threads)


def both(starts: WrongStarts | None, on_policy: OnPolicy | None) -> OnPolicy | None:
    """Return one callback for two."""
    if starts is None or on_policy is None:
        return starts or on_policy
    return lambda steps, phi: on_policy(steps, phi) and starts(steps, phi)


class WrongStarts:
    """Fills the pool of training environments with states that wrong policies reach; a callback as in `learn`.

    Args:
        envs: the training environments.
        changes: the settings.
        draw: draws the tasks in which wrong policies act.
        wrong: makes wrong policies.
        seed: of all draws.
        num_threads: threads of the simulator; 0 takes all cores.
    """

    def __init__(
        self,
        envs: ChangingVectorEnv,
        changes: Changes,
        draw: DrawTasks,
        wrong: WrongPolicies,
        *,
        seed: int,
        num_threads: int,
    ) -> None:
        seed = read_seed(seed)
        self._envs, self._changes, self._draw, self._wrong = envs, changes, draw, wrong
        self._generator = np.random.default_rng([_STREAM, seed])
        self._num_threads = num_threads
        self._rollouts = 0

    def __call__(self, environment_steps: int, phi: NDArray[np.float32]) -> bool:
        """Before a rollout: collect states, where it is time to; training goes on."""
        if self._rollouts % self._changes.refresh == 0 and np.isfinite(phi).all():
            self._collect(phi)
        self._rollouts += 1
        return True

    def _collect(self, phi: NDArray[np.float32]) -> None:
        count, (fewest, most) = self._envs.num_envs, self._changes.wrong_steps
        envs = ChangingVectorEnv(
            self._draw(count, self._generator),
            draw=self._draw,
            seed=0,
            num_threads=self._num_threads,
            autoreset_mode=AutoresetMode.SAME_STEP,
            horizon=most + 1,
        )
        policy = BatchedPolicy(self._wrong(phi, count, self._generator))
        due = self._generator.integers(fewest, most + 1, (count, _SNAPSHOTS))
        observations, _ = envs.reset(seed=self._generator.integers(2**31, size=count).tolist())
        for step in range(1, most + 1):
            observations, *_ = envs.step(policy(observations[:, None])[:, 0])
            self._envs.pool.extend(envs.snapshot(int(index)) for index in np.flatnonzero((due == step).any(axis=1)))
        envs.close()
