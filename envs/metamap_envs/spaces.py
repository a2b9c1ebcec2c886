"""Spaces that the single and the vector environment share."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box

from metamap_envs.family import Family

__all__ = ["action_space", "observation_space"]


def observation_space(family: Family) -> Box:
    """Unbounded float64 [O], as Gymnasium's MuJoCo environments have it."""
    return Box(-np.inf, np.inf, (family.observation_size,), np.float64)


def action_space(family: Family) -> Box:
    """The actuators' control range, float32 [A]."""
    low, high = family.action_range
    return Box(low, high, dtype=np.float32)
