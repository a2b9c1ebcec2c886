"""Environments whose observations have the coordinates of their tasks appended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from metamap_envs.task import Task

__all__ = ["ConditionedVecEnv"]


class ConditionedVecEnv(VecEnvWrapper):
    """Environments whose observations have the coordinates of their tasks appended.

    Where a task changes, the first observation with the new task has its coordinates.

    Args:
        venv: N environments with flat observations [O] and an attribute ``task``, such as `FamilyVecEnv`.
        coordinates: gives those of N tasks, float32 [N, K].
    """

    def __init__(self, venv: Any, coordinates: Callable[[Sequence[Task]], NDArray[np.float32]]) -> None:
        self._tasks: list[Task] = venv.get_attr("task")
        self._coordinates, self._appended = coordinates, coordinates(self._tasks)
        size = venv.observation_space.shape[0] + self._appended.shape[1]
        super().__init__(venv, observation_space=Box(-np.inf, np.inf, (size,), np.float32))

    def _follow(self) -> None:
        tasks = self.venv.get_attr("task")
        if tasks != self._tasks:
            self._tasks, self._appended = tasks, self._coordinates(tasks)

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere."""
        observations = self.venv.reset()
        self._follow()
        return np.concatenate([observations, self._appended], axis=1)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            infos[index]["terminal_observation"] = np.concatenate([last, self._appended[index]])
        self._follow()
        return np.concatenate([observations, self._appended], axis=1), rewards, dones, infos
