"""Families that are declared for an environment as users write it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from helpers.user_envs import ID, Plain
from metamap_envs import Family, from_gymnasium
from metamap_envs.declared_env import GymnasiumFamilyEnv


def declare(base: type[Plain] = Plain, **changes: Any) -> Family:
    """The family of `Plain` with other members."""
    made: Any = type("Changed", (base,), changes)
    gym.register(ID, entry_point=made, max_episode_steps=20)
    return from_gymnasium(
        {"name": "users", "environment": ID, "parameters": {"gain": {"argument": "gain", "train": [0.5, 2.0]}}}
    )


def started(**changes: Any) -> GymnasiumFamilyEnv:
    declare(**changes)
    env = GymnasiumFamilyEnv("users", {"gain": 1.5})
    env.reset(seed=0)
    return env
