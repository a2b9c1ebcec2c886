"""An environment that counts its steps."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit

from metamap_envs.env import FamilyEnv
from metamap_envs.registry import get_family
from metamap_envs.task import Task

__all__ = ["CountedEnv"]


class CountedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment of a task that counts the steps taken in it."""

    def __init__(self, task: Task) -> None:
        super().__init__(TimeLimit(FamilyEnv(task.family, task=task), get_family(task.family).horizon))
        self.steps = 0

    def step(self, action: Any) -> Any:
        """Step and count."""
        self.steps += 1
        return super().step(action)
