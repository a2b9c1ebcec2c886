"""Gymnasium ids of the families, registered when `metamap_envs` is imported."""

from __future__ import annotations

import gymnasium as gym

from metamap_envs.registry import get_family, list_families, register_declared

__all__ = ["register_all"]


def register_all() -> None:
    """Register every family as ``MetaMap/<Name>-v<version>``; entry points are strings, so specs stay JSON-able.

    Declared families are among them: the package's examples, and those that METAMAP_FAMILIES lists. With Gymnasium,
    ``gym.make("metamap_envs:MetaMap/CheetahVelocity-v0")`` imports this package for the user.
    """
    for name in list_families():
        family = get_family(name)
        if family.gym_id not in gym.registry:
            gym.register(
                family.gym_id,
                entry_point=family.entry_point,
                vector_entry_point="metamap_envs.vector:make_vector_env",
                max_episode_steps=family.horizon,
                kwargs={"family": name},
            )
    register_declared()
