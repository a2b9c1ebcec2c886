"""Ant that must run in a hidden direction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._ant import Ant
from metamap_envs.families._parameters import angle
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State, sum_of_squares

__all__ = ["AntDirection"]

_CONTROL_COST_WEIGHT = 0.5
_HEALTHY_REWARD = 1.0
_HEALTHY_HEIGHTS = (0.2, 1.0)  # m


@register_family
class AntDirection(Ant):
    """Ant-v5 without contact forces that is rewarded for running in one hidden direction of the plane.

    Observation (27): qpos without x and y (13), qvel (14).
    Reward: ``d . v + healthy - 0.5 sum(a^2)``, d the unit vector of ``direction``, v the torso's mean velocity in the
    plane over the step in m/s, healthy 1 or 0. At direction 0, along x, it is Ant-v5's but for the cost of contacts.
    An episode ends where the ant is not healthy: torso height not in [0.2, 1] m. Horizon 200.
    Source: PEARL's `ant_dir` (Rakelly et al., 2019), directions uniform on the circle.
    """

    name = "ant-direction"
    embodiment = "ant"
    unobserved_positions = 2
    description = "Ant that must run in a hidden direction"
    space = ParameterSpace((angle("direction", "direction that is rewarded, from the x axis"),))

    def observe(self, state: State) -> Array:
        """Positions without x and y, then velocities."""
        return np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Velocity in the rewarded direction, being healthy, and the control cost."""
        velocity = (self.place(after) - self.place(before)) / self.step_seconds
        direction = values[:, 0]
        forward = np.cos(direction) * velocity[:, 0] + np.sin(direction) * velocity[:, 1]
        survive: Array = _HEALTHY_REWARD * self._healthy(after).astype(np.float64)
        control: Array = _CONTROL_COST_WEIGHT * sum_of_squares(actions)
        terms = {"x_velocity": velocity[:, 0], "y_velocity": velocity[:, 1], "reward_forward": forward}
        return (forward + survive) - control, terms | {"reward_survive": survive, "reward_ctrl": -control}

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Where it is not healthy."""
        return ~self._healthy(after)

    def _healthy(self, state: State) -> NDArray[np.bool_]:
        """Ant-v5's `is_healthy`, bool [N]."""
        finite = np.isfinite(state.qpos).all(axis=1) & np.isfinite(state.qvel).all(axis=1)
        lowest, highest = _HEALTHY_HEIGHTS
        healthy: NDArray[np.bool_] = finite & (lowest <= state.qpos[:, 2]) & (state.qpos[:, 2] <= highest)
        return healthy
