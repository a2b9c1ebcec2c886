"""What Hopper-v5 and Walker2d-v5 share: start, observation, reward, and an end where they are not healthy."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._starts import uniform_noise
from metamap_envs.family import Family
from metamap_envs.state import Array, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["Upright"]

_RESET_NOISE = 5e-3  # reset_noise_scale of both
_LARGEST_VELOCITY = 10.0  # both clip observed velocities
_CONTROL_COST_WEIGHT = 1e-3
_HEALTHY_REWARD = 1.0


class Upright(Family):
    """Base of the hopper and walker families; what being healthy is, each robot says.

    Observation: qpos without x, qvel clipped to [-10, 10].
    Reward: ``v + healthy - 0.001 sum(a^2)``, v the mean forward velocity over the step in m/s, healthy 1 or 0.
    Source: `gymnasium/envs/mujoco/hopper_v5.py` and `walker2d_v5.py`.
    """

    unobserved_positions = 1

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Uniform noise on qpos and qvel, drawn in Gymnasium's order."""
        return uniform_noise(self._initial, _RESET_NOISE, generator)

    def observe(self, state: State) -> Array:
        """Positions without x, then clipped velocities."""
        velocities = np.clip(state.qvel, -_LARGEST_VELOCITY, _LARGEST_VELOCITY)
        return np.concatenate([state.qpos[:, 1:], velocities], axis=1)

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """As the observation says; unknown where a velocity was clipped."""
        qpos, qvel = cast("tuple[Array, Array]", super().states_of(observations, values))
        return qpos, np.where((np.abs(qvel) < _LARGEST_VELOCITY).all(axis=1, keepdims=True), qvel, np.nan)

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

    @abstractmethod
    def _healthy(self, state: State) -> NDArray[np.bool_]:
        """The robot's `is_healthy`, bool [N]."""
