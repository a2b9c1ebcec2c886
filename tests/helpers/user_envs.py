"""Environments as users write and declare them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from metamap_envs import Family, from_gymnasium

ID = "Users-v0"


class Plain(gym.Env[Any, Any]):
    """Draws its state from Gymnasium's generator at a reset; every part that it returns may be overridden."""

    observation_space: gym.Space[Any] = Box(-np.inf, np.inf, (2,), np.float32)
    action_space: gym.Space[Any] = Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.x = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        return self.observation(), {}

    def observation(self) -> Any:
        return self.x

    def reward(self) -> Any:
        return float(self.x[0])

    def step(self, action: Any) -> Any:
        self.x = (0.9 * self.x + self.gain * np.ravel(action)[0]).astype(np.float32)
        return self.observation(), self.reward(), False, False, {}


def declare(environment: str = "Pendulum-v1", **entry: object) -> Family:
    """A family with one parameter, p."""
    return from_gymnasium({"name": "test", "environment": environment, "parameters": {"p": entry}, "horizon": 50})
