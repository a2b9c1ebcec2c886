"""Actions of a declared family as one of its environments takes them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

__all__ = ["ActionMap"]


class ActionMap:
    """From [-1, 1] to the space of an environment, whose bounds may depend on its task; see `GymnasiumFamily`.

    Args:
        space: the environment's actions, a bounded Box or a Discrete space.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space
        self._affine: tuple[NDArray[Any], NDArray[Any]] | None = None
        """(middle, half width), or None where nothing is to be scaled."""
        if isinstance(space, Box) and not ((space.low == -1).all() and (space.high == 1).all()):
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            self._affine = (low + high) / 2.0, (high - low) / 2.0

    def __call__(self, action: NDArray[Any]) -> Any:
        """An action [A] of the family as the environment takes it."""
        space = self._space
        if isinstance(space, Discrete):
            chosen = int(action[0] > 0.0) if space.n == 2 else int(np.argmax(action))
            return space.start + chosen
        shaped = action.reshape(space.shape)
        if self._affine is None:
            return shaped
        middle, half = self._affine
        return (middle + half * shaped).astype(space.dtype)
