"""Walker2d-v5's physics, start, observation, reward and end of episode, shared by the walker families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._upright import Upright
from metamap_envs.state import State

__all__ = ["Walker"]

_HEALTHY_HEIGHTS = (0.8, 2.0)  # m
_LARGEST_ANGLE = 1.0  # rad


class Walker(Upright):
    """Base of the walker families: Gymnasium Walker2d-v5 but for the horizon.

    Observation (17): qpos without x (8), qvel clipped to [-10, 10] (9). Action (6): torques in [-1, 1].
    An episode ends where the walker is not healthy: height not in (0.8, 2) m or angle not in (-1, 1) rad.
    Source: `gymnasium/envs/mujoco/walker2d_v5.py`.
    """

    base_id = "Walker2d-v5"
    embodiment = "walker"
    horizon = 200  # PEARL, VariBAD
    frame_skip = 4
    camera: ClassVar[Mapping[str, Any]] = {
        "trackbodyid": 2,
        "distance": 4.0,
        "lookat": np.array((0.0, 0.0, 1.15)),
        "elevation": -20.0,
    }

    def compile(self) -> mujoco.MjModel:
        """Compile the installed walker2d_v5.xml as it is."""
        return gymnasium_asset("walker2d_v5.xml").compile()

    def _healthy(self, state: State) -> NDArray[np.bool_]:
        """Walker2d-v5's `is_healthy`, bool [N]."""
        height, angle = state.qpos[:, 1], state.qpos[:, 2]
        lowest, highest = _HEALTHY_HEIGHTS
        healthy: NDArray[np.bool_] = (lowest < height) & (height < highest) & (np.abs(angle) < _LARGEST_ANGLE)
        return healthy
