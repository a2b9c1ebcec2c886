"""Recordings of robots for films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.env import FamilyEnv
from metamap_envs.seeds import read_seed
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["Act", "FilmedEnv", "Reel", "record_reel"]

Act = Callable[[NDArray[Any]], NDArray[Any]]
"""Action [A] for an observation [O]."""


@dataclass(frozen=True, eq=False)
class Reel:
    """What one robot did.

    Attributes:
        positions: qpos at the start and after each of n steps, float64 [n + 1, nq].
        rewards: of each step, float64 [n].
        ended: whether an episode ended with the step, bool [n]; no motion is drawn from there to the next state.
        captions: after each step [n]; empty for none.
    """

    positions: NDArray[np.float64]
    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    captions: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """n, the number of steps."""
        return len(self.rewards)


class FilmedEnv(FamilyEnv):
    """An environment that records its positions and rewards; arguments of `FamilyEnv`."""

    def __init__(self, family: str, task: Task) -> None:
        super().__init__(family, task=task)
        self._positions: list[NDArray[np.float64]] = []
        self._rewards: list[float] = []
        self._ended: list[bool] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """See `FamilyEnv.reset`."""
        found = super().reset(seed=seed, options=options)
        if self._ended:
            self._ended[-1] = True
        else:
            self._positions = [self.data.qpos.copy()]
        return found

    def step(self, action: NDArray[Any]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `FamilyEnv.step`."""
        found = super().step(action)
        self._positions.append(self.data.qpos.copy())
        self._rewards.append(float(found[1]))
        self._ended.append(bool(found[2] or found[3]))
        return found

    def reel(self) -> Reel:
        """What was recorded since the first reset."""
        return Reel(np.stack(self._positions), np.array(self._rewards), np.array(self._ended, dtype=np.bool_))


def record_reel(task: Task, act: Act, *, seed: int, steps: int) -> Reel:
    """Run episodes of the family's horizon, one after another, for so many steps.

    Args:
        task: the task.
        act: the policy.
        seed: of the first reset; episode e has ``seed + e``, as in the evaluation.
        steps: at least 1.

    Raises:
        MetaMapError: no seed.
    """
    seed = read_seed(seed)
    env = FilmedEnv(task.family, task)
    observation, _ = env.reset(seed=seed)
    begun, episode = 0, 0
    for step in range(1, steps + 1):
        observation, _, terminated, _, _ = env.step(act(observation))
        if step < steps and (terminated or step - begun == env.family.horizon):
            begun, episode = step, episode + 1
            observation, _ = env.reset(seed=seed + episode)
    env.close()
    return env.reel()
