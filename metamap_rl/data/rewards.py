"""Rewards from observations and actions, for families whose formula needs no more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.state import State
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["recompute_rewards"]

_STEPS = 30
_TASKS = 6
_TOLERANCE = 1e-4
"""Largest error of computed rewards, relative to the largest reward."""


def recompute_rewards(
    family: Family,
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    next_observations: NDArray[np.float32],
) -> NDArray[np.float32] | None:
    """Rewards [n] by the family's own formula, with its parameters at their defaults.

    Args:
        family: the family.
        observations: [n, O].
        actions: [n, A].
        next_observations: [n, O].

    Returns:
        float32 [n]; None if the formula needs more than these arrays, such as a hidden goal or a position that is not
        observed. Whether it does is tried on simulated transitions of several tasks.
    """
    if not _computable(family.name):
        return None
    return _computed(family, observations, actions, next_observations)


def _computed(
    family: Family, observations: NDArray[np.float32], actions: NDArray[np.float32], following: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Rewards by the formula; None if the states are not in the observations, or are not all that it reads."""
    values = np.tile(family.task().values, (len(observations), 1))
    states = []
    for seen in (observations, following):
        found = family.states_of(seen.astype(np.float64), values)
        if found is None or not all(np.isfinite(part).all() for part in found):
            return None
        states.append(State(*found))
    try:
        rewards, _ = family.reward(states[0], states[1], actions.astype(np.float64), values)
    except (KeyError, NotImplementedError):  # needs a derived quantity
        return None
    return rewards.astype(np.float32)


@lru_cache(maxsize=64)
def _computable(name: str) -> bool:
    """Whether computed rewards are those of the simulator, on random actions in several tasks."""
    family = get_family(name)
    if family.declared is not None or family.readouts:
        return False
    try:
        tasks = family.sample("train", _TASKS, 0)
    except MetaMapError:
        return False
    envs = FamilyVectorEnv(tasks, num_threads=1, autoreset_mode=AutoresetMode.SAME_STEP)
    seen, _ = envs.reset(seed=list(range(_TASKS)))
    generator = np.random.default_rng(0)
    errors, largest = [0.0], 0.0
    for _ in range(_STEPS):
        actions = generator.uniform(-1.0, 1.0, (_TASKS, family.action_size)).astype(np.float32)
        following, rewards, terminated, truncated, _ = envs.step(actions)
        running = ~(terminated | truncated)
        found = _computed(family, *(part[running].astype(np.float32) for part in (seen, actions, following)))
        if found is None:
            return False
        errors.append(float(np.abs(found - rewards[running]).max(initial=0.0)))
        largest = max(largest, float(np.abs(rewards).max()))
        seen = following
    envs.close()
    return max(errors) <= _TOLERANCE * largest
