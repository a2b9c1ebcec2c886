"""A trot for the Go1 by inverse kinematics: a start for training, where random weights only fall."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._go1 import HOME, LEGS, SCALES
from metamap_envs.state import Array

__all__ = ["TrotController"]

_LINK = 0.213  # m, length of thigh and calf
_HEIGHT = 2.0 * _LINK * math.cos(0.9)  # m, of the hips above the feet in the pose
_LONGEST = 1.98 * _LINK
_LIFT = 0.08  # m; servos yield
_STANCE = 0.2  # s
_FORWARD, _LEFT = np.array([0.19, 0.19, -0.19, -0.19]), np.array([0.13, -0.13, 0.13, -0.13])  # m, places of the legs
_LEVEL, _DAMP = 1.0, 0.08  # of the tilt that the legs' lengths undo; s, of its rate
_SIDE = 0.5  # rad of a hip for each unit of tilt to a side


class TrotController:
    """Diagonal legs swing together, along with the clock, and the legs' lengths keep the trunk level.

    It is given no parameter: the same for all tasks.

    Args:
        count: N, number of robots.
        offsets: of the legs in a cycle [4].
    """

    def __init__(self, count: int, offsets: Array) -> None:
        self._offsets = offsets
        self.sensitivity = np.tile(np.eye(3 * len(LEGS)), (count, 1, 1))
        """See `Controller`; all joints alike."""

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Actions [N, 12] for raw observations [N, 45]."""
        seen = observations.astype(np.float64)
        tilt = seen[:, 24:26] + _DAMP * np.stack([seen[:, 28], -seen[:, 27]], axis=1)  # ahead and to the left, down
        clock = np.arctan2(seen[:, 42], seen[:, 43])[:, None] / (2.0 * math.pi)
        phase = (clock + self._offsets) % 1.0
        swing, part = phase < 0.5, (phase % 0.5) / 0.5
        stride = seen[:, 44:] * _STANCE
        ahead = stride * np.where(swing, -0.5 * np.cos(math.pi * part), 0.5 - part)
        lift = np.where(swing, _LIFT * np.sin(math.pi * part), 0.0)
        height = _HEIGHT - lift + _LEVEL * (tilt[:, :1] * _FORWARD + tilt[:, 1:] * _LEFT)
        length = np.clip(np.hypot(ahead, height), 0.5 * _LONGEST, _LONGEST)
        calf = -2.0 * np.arccos(length / (2.0 * _LINK))
        thigh = -0.5 * calf - np.arctan2(ahead, height)
        hip = np.tile(_SIDE * tilt[:, 1:], (1, len(LEGS)))
        targets = np.stack([hip, thigh, calf], axis=2).reshape(len(seen), -1)
        actions: NDArray[np.float32] = np.clip((targets - HOME) / SCALES, -1.0, 1.0).astype(np.float32)
        return actions
