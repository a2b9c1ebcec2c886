"""Environments whose observations have constants appended."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

__all__ = ["ConditionedVecEnv"]


class ConditionedVecEnv(VecEnvWrapper):
    """Environments whose observations have constants appended, such as the coordinates of their tasks.

    Args:
        venv: N environments with flat observations [O].
        constants: float32 [N, K].
    """

    def __init__(self, venv: Any, constants: NDArray[np.float32]) -> None:
        size = venv.observation_space.shape[0] + constants.shape[1]
        super().__init__(venv, observation_space=Box(-np.inf, np.inf, (size,), np.float32))
        self._constants = constants

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere."""
        return np.concatenate([self.venv.reset(), self._constants], axis=1)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            infos[index]["terminal_observation"] = np.concatenate([last, self._constants[index]])
        return np.concatenate([observations, self._constants], axis=1), rewards, dones, infos
