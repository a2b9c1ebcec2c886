"""Reacher whose six joint sensors are wired in a hidden order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families.reacher_goal import ReacherGoal
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["ReacherSensors"]

_SIZE = 6
_TARGET = (0.08, 0.13)  # m
_VELOCITY = 10.0  # rad/s, unit of the velocity sensors


def _digit(channel: int) -> Parameter:
    choices = tuple(float(choice) for choice in range(_SIZE - channel))
    return Parameter(
        name=f"sensor_{channel}",
        unit="index",
        low=0.0,
        high=choices[-1],
        default=0.0,
        choices=choices,
        categorical=True,
        description=f"sensor on channel {channel}, by its index among those that no earlier channel has",
    )


@lru_cache(maxsize=64)
def _orders(digits: bytes) -> NDArray[np.intp]:
    """Orders [N, O] of Lehmer codes [N, O - 1]."""
    codes = np.frombuffer(digits).reshape(-1, _SIZE - 1).astype(np.intp)
    orders = np.empty((len(codes), _SIZE), dtype=np.intp)
    for row, code in enumerate(codes.tolist()):
        left = list(range(_SIZE))
        orders[row] = [left.pop(digit) for digit in code] + left
    orders.setflags(write=False)
    return orders


@register_family
class ReacherSensors(ReacherGoal):
    """Reacher-v5 with a fixed target, whose six joint sensors are plugged into six channels in a hidden order.

    Observation (6): cos of shoulder and elbow, sin of both, their velocities in units of 10 rad/s; in the task's order.
    Of the 720 orders 450 are for training, 90 for validation and 180 for tests. The order is written as a Lehmer code:
    the sensor of each channel by its index among those that are left. Physics and reward are the same for all tasks.
    Action (2): torques in [-1, 1]. Reward: ``-|fingertip - target| - sum(a^2)``, target at (0.08, 0.13) m. No
    termination, horizon 50.
    Source: ours; physics, start and reward are those of Reacher-v5.
    """

    name = "reacher-sensors"
    embodiment = "reacher-joints"
    description = "Reacher whose joint sensors are wired in a hidden order"
    space = ParameterSpace(tuple(_digit(channel) for channel in range(_SIZE - 1)))
    sensor_parameters = frozenset(space.names)

    def carry(self, task: Task, qpos: Array, qvel: Array) -> None:
        """The target, at rest where it always is."""
        qpos[-2:] = _TARGET
        qvel[-2:] = 0.0

    def observe(self, state: State) -> Array:
        """Joint angles as cos and sin, joint velocities."""
        angles = state.qpos[:, :2]
        return np.concatenate([np.cos(angles), np.sin(angles), state.qvel[:, :2] / _VELOCITY], axis=1)

    def wiring(self, values: Array) -> NDArray[np.intp]:
        """The order that the Lehmer code of each task says."""
        return _orders(np.ascontiguousarray(values, dtype=np.float64).tobytes())

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """Joint angles from their cos and sin, in [-pi, pi], the sensors in the task's order."""
        sensors = np.empty(np.shape(observations))
        np.put_along_axis(sensors, self.wiring(values), observations, axis=1)
        joints = np.arctan2(sensors[:, 2:4], sensors[:, :2])
        still = np.zeros_like(joints)
        qpos = np.concatenate([joints, np.tile(_TARGET, (len(joints), 1))], axis=1)
        return qpos, np.concatenate([sensors[:, 4:] * _VELOCITY, still], axis=1)
