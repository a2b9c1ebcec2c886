"""Walker2d-v5's physics, start, observation, reward and end of episode, shared by the walker families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.family import Array, Family, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["Walker"]

_RESET_NOISE = 5e-3  # Walker2d-v5 reset_noise_scale
_LARGEST_VELOCITY = 10.0  # Walker2d-v5 clips observed velocities
_CONTROL_COST_WEIGHT = 1e-3
_HEALTHY_REWARD = 1.0
_HEALTHY_HEIGHTS = (0.8, 2.0)  # m
_LARGEST_ANGLE = 1.0  # rad


class Walker(Family):
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

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Uniform noise on qpos and qvel, drawn in Walker2d-v5's order."""
        qpos, qvel = self._initial
        qpos = qpos + generator.uniform(low=-_RESET_NOISE, high=_RESET_NOISE, size=len(qpos))
        qvel = qvel + generator.uniform(low=-_RESET_NOISE, high=_RESET_NOISE, size=len(qvel))
        return qpos, qvel

    def observe(self, state: State) -> Array:
        """Positions without x, then clipped velocities."""
        velocities = np.clip(state.qvel, -_LARGEST_VELOCITY, _LARGEST_VELOCITY)
        return np.concatenate([state.qpos[:, 1:], velocities], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Forward velocity, being healthy, and the control cost."""
        forward = (after.qpos[:, 0] - before.qpos[:, 0]) / self.step_seconds
        survive: Array = _HEALTHY_REWARD * self._healthy(after).astype(np.float64)
        control: Array = _CONTROL_COST_WEIGHT * sum_of_squares(actions)
        terms = {"x_velocity": forward, "reward_survive": survive, "reward_ctrl": -control}
        return (forward + survive) - control, terms

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Where it is not healthy."""
        return ~self._healthy(after)

    def _healthy(self, state: State) -> NDArray[np.bool_]:
        """Walker2d-v5's `is_healthy`, bool [N]."""
        height, angle = state.qpos[:, 1], state.qpos[:, 2]
        lowest, highest = _HEALTHY_HEIGHTS
        healthy: NDArray[np.bool_] = (lowest < height) & (height < highest) & (np.abs(angle) < _LARGEST_ANGLE)
        return healthy
