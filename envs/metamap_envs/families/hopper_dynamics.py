"""Hopper whose masses, inertias, joint damping and friction are unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._random_params import POWERS, scale_by_powers
from metamap_envs.families._upright import Upright
from metamap_envs.registry import register_family
from metamap_envs.state import State
from metamap_envs.task import Task

__all__ = ["HopperDynamics"]

_HEALTHY_STATE = 100.0
_LEAST_HEIGHT = 0.7  # m
_LARGEST_ANGLE = 0.2  # rad


@register_family
class HopperDynamics(Upright):
    """Hopper-v5 with four factors on its physics: 1.5^p for mass, inertia and friction, 1.3^p for joint damping.

    Observation (11): qpos without x, qvel clipped to [-10, 10]. Action (3): torques in [-1, 1].
    Reward: ``v + healthy - 0.001 sum(a^2)``, v the mean forward velocity over the step in m/s, healthy 1 or 0.
    An episode ends where the hopper is not healthy: height up to 0.7 m, angle beyond 0.2 rad, or a state beyond 100.
    Horizon 200.
    Source: `gymnasium/envs/mujoco/hopper_v5.py`; the factors and p in U(-3, 3) are those of PEARL's and VariBAD's
    `HopperRandParams`, which draws a power for every body, joint and geom. Here one power holds for all of a kind:
    4 parameters with names in place of 4 arrays, and a declared outside.
    """

    name = "hopper-dynamics"
    base_id = "Hopper-v5"
    embodiment = "hopper"
    description = "Hopper whose masses, inertias, damping and friction are unknown"
    horizon = 200
    frame_skip = 4
    camera: ClassVar[Mapping[str, Any]] = {
        "trackbodyid": 2,
        "distance": 3.0,
        "lookat": np.array((0.0, 0.0, 1.15)),
        "elevation": -20.0,
    }
    space = POWERS
    physics_parameters = frozenset(space.names)

    def compile(self) -> mujoco.MjModel:
        """Compile the installed hopper.xml as it is."""
        return gymnasium_asset("hopper.xml").compile()

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the four quantities; what follows from masses and inertias is computed again."""
        scale_by_powers(model, task)
        return True

    def _healthy(self, state: State) -> NDArray[np.bool_]:
        """Hopper-v5's `is_healthy`, bool [N]."""
        rest = np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)
        bounded = (np.abs(rest) < _HEALTHY_STATE).all(axis=1)
        healthy: NDArray[np.bool_] = (
            bounded & (state.qpos[:, 1] > _LEAST_HEIGHT) & (np.abs(state.qpos[:, 2]) < _LARGEST_ANGLE)
        )
        return healthy
