"""Actions of a declared family as one of its environments takes them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["CHOICES", "ActionMap", "check_actions", "choices_of", "count_actions"]

CHOICES = (Discrete, MultiDiscrete, MultiBinary)
"""Spaces whose actions are choices."""

_UNBOUNDED = 1e30
"""Bounds this large count as infinite: some authors write the largest float instead."""


class ActionMap:
    """From [-1, 1] to the space of an environment, whose bounds may depend on its task; see `GymnasiumFamily`.

    Args:
        space: the environment's actions: a bounded Box, or Discrete, MultiDiscrete or MultiBinary.
        label: what messages call the environment.

    Raises:
        MetaMapError: another space, or bounds that are not finite or not in order.
    """

    def __init__(self, space: gym.Space[Any], label: str = "the environment") -> None:
        self.size = count_actions(space, label)
        self._space = space
        self._counts = choices_of(space)
        self._affine: tuple[NDArray[Any], NDArray[Any]] | None = None
        """(middle, half width), or None where nothing is to be scaled."""
        self._whole = isinstance(space, Box) and space.dtype.kind in "iub"
        if isinstance(space, Box) and (self._whole or not ((space.low == -1).all() and (space.high == 1).all())):
            self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
            self._affine = (self._low + self._high) / 2.0, (self._high - self._low) / 2.0

    def __call__(self, action: NDArray[Any]) -> Any:
        """An action [A] of the family as the environment takes it: an array of its own, into which that may write."""
        space = self._space
        if isinstance(space, Discrete):
            return space.start + self._chosen(action)[0]
        if isinstance(space, MultiDiscrete | MultiBinary):
            chosen = np.array(self._chosen(action), dtype=space.dtype).reshape(space.shape)
            return chosen + space.start if isinstance(space, MultiDiscrete) else chosen
        shaped = action.reshape(space.shape)
        if self._affine is None:
            return np.array(shaped, dtype=None if space.dtype in (np.float32, np.float64) else space.dtype)
        if self._whole:
            return self._integers(shaped.astype(np.float64)).astype(space.dtype)
        middle, half = self._affine
        scaled = np.asarray(middle + half * shaped)
        inside = np.clip(scaled, self._low, self._high)  # rounding must not lead out of the space
        return np.where(np.abs(shaped) <= 1.0, inside, scaled).astype(space.dtype)

    def _chosen(self, action: NDArray[Any]) -> list[int]:
        """Which of its alternatives each choice takes, from 0."""
        chosen, at = [], 0
        for count in self._counts:
            size = _numbers_for(count)
            part = action[at : at + size]
            chosen.append(int(part[0] > 0.0) if size == 1 else int(np.argmax(part)))
            at += size
        return chosen

    def _integers(self, shaped: NDArray[np.float64]) -> NDArray[np.float64]:
        """Whole numbers of a Box of integers: each has an equal share of [-1, 1]."""
        count = self._high - self._low + 1.0
        index = np.floor((shaped + 1.0) / 2.0 * count)
        return np.asarray(self._low + np.clip(index, 0.0, count - 1.0))


def choices_of(space: gym.Space[Any]) -> tuple[int, ...]:
    """How many alternatives each choice of a space has, in the order of its flat actions; empty for a Box."""
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiDiscrete):
        return tuple(int(count) for count in np.ravel(space.nvec))
    return (2,) * int(np.prod(space.shape)) if isinstance(space, MultiBinary) else ()


def _numbers_for(count: int) -> int:
    """Numbers in an action for a choice of so many alternatives."""
    return 1 if count == 2 else count


def count_actions(space: gym.Space[Any], label: str) -> int:
    """Numbers in an action of the family, A, for the environment's own space.

    Raises:
        MetaMapError: neither a Box with finite bounds, nor a space of choices.
    """
    if isinstance(space, CHOICES):
        return sum(map(_numbers_for, choices_of(space)))
    if not isinstance(space, Box):
        raise MetaMapError(
            f"{label}: expected an action space of type Box, Discrete, MultiDiscrete or MultiBinary, got {space}"
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not (np.abs(low) < _UNBOUNDED).all() or not (np.abs(high) < _UNBOUNDED).all():
        raise MetaMapError(f"{label}: expected actions with finite bounds, got {space}")
    if (low > high).any():
        raise MetaMapError(f"{label}: expected actions whose lower bound is below the upper one, got {space}")
    return int(np.prod(space.shape))


def check_actions(env: gym.Env[Any, Any], label: str) -> int:
    """Refuse actions that have no effect; returns their number, A.

    Raises:
        MetaMapError: as `count_actions`; no action at all, one alternative only, or a range of no width.
    """
    space = env.action_space
    count = count_actions(space, label)
    if count == 0:
        raise MetaMapError(f"{label}: expected at least one action, got {space}")
    if 1 in choices_of(space):
        raise MetaMapError(f"{label}: expected at least two actions to choose from, got {space}")
    if isinstance(space, Box):
        for index in np.flatnonzero(np.ravel(space.low) == np.ravel(space.high)):
            end = np.ravel(space.low)[index]
            raise MetaMapError(
                f"{label}: action {index} has a range of no width ([{end:g}, {end:g}]): {_remedy(env, int(index))}"
            )
    return count


def _remedy(env: gym.Env[Any, Any], index: int) -> str:
    """What to do about an action without a range."""
    model: Any = getattr(env.unwrapped, "model", None)
    if getattr(model, "nu", None) != np.prod(env.action_space.shape or ()) or not hasattr(
        model, "actuator_ctrllimited"
    ):
        return "give it one, or leave it out of the action space"
    name = model.actuator(index).name
    return f"give the actuator {name!r} a ctrlrange" if name else f"give actuator {index} of the model a ctrlrange"
