"""Quadrotors of any size that follow a target on a figure of eight."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from metamap_envs.families._parameters import declared
from metamap_envs.families._quadrotor import PARAMETERS, ROTORS, Quadrotor
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["QuadrotorTracking"]

_CURVE = (
    declared("size", "1", (2.0, 8.0), ((8.0, 10.0),), 4.0, "half of the curve's length along x, in arm lengths"),
    declared("period", "s", (4.0, 10.0), ((3.0, 4.0),), 6.0, "time in which the target flies along the whole curve"),
)
_TARGET = ("target_x", "target_y", "target_z", "target_vx", "target_vy", "target_vz")
_PHASE = 2 * len(ROTORS)  # place among the activations, the target's follow


@register_family
class QuadrotorTracking(Quadrotor):
    """Follow a target along a hidden curve, with a vehicle of unknown mass, thrust, inertia and motors.

    Physics, observation (22), action (4) and end are those of `Quadrotor`; starts, too, but around the target and with
    its velocity added. Horizon 500 (5 s). The target's position is ``size`` arm lengths times (sin p, sin(2 p) / 2, 0),
    a Lissajous curve, with the phase p growing by 2 pi in each ``period`` from 0 on. Only position and velocity
    relative to it are observed. Where curves change in mid-episode the phase stays, and the target is on the new one
    after the next step. Pictures do not show it.
    Reward: that of `quadrotor-hover`, with the distance to the target: ``1 - 0.6 d / (d + 2) - 0.2 (1 - cos(angle)) / 2
    - 0.1 w / (w + 10) - 0.1 mean(change^2) / 4``, in [0, 1].
    Source: as `quadrotor-hover`; RAPTOR is flown along Lissajous curves like that. Size and period are ours.
    """

    name = "quadrotor-tracking"
    base_id = "MetaMap/QuadrotorTracking-v0"
    description = "Quadrotor of 20 g to 5 kg that follows a target along a figure of eight of unknown size and period"
    space = ParameterSpace((*PARAMETERS, *_CURVE))
    physics_parameters = frozenset(space.names)
    integrators: ClassVar[tuple[str, ...]] = (*Quadrotor.integrators, "phase", *_TARGET)

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Around the target, which is at the origin, and moving along with it."""
        qpos, qvel = super().initial_state(task, generator)
        qvel[:3] += self._target(np.zeros(1), task.values[None])[0, 3:]
        return qpos, qvel

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array:
        """Rotors and last action as in hovering; the target at the origin."""
        target = self._target(np.zeros(1), task.values[None])[0]
        return np.concatenate([super().initial_activations(task, generator), [0.0], target])

    def further_memory(self, activations: Array, values: Array) -> Array:
        """Phase, position and velocity of the target after a MuJoCo step."""
        period = np.ascontiguousarray(values[:, self.space.names.index("period")])
        phase = activations[:, _PHASE] + 2.0 * math.pi * self.base_model.opt.timestep / period
        return np.concatenate([phase[:, None], self._target(phase, values)], axis=1)

    def _target(self, phase: Array, values: Array) -> Array:
        """Position in m and velocity in m/s of targets [N, 6] at phases [N]."""
        size, period = (np.ascontiguousarray(values[:, self.space.names.index(name)]) for name in ("size", "period"))
        half = size * self.arms(values)
        speed, still = half * (2.0 * math.pi / period), np.zeros_like(phase)
        place = [half * np.sin(phase), 0.5 * half * np.sin(2.0 * phase), still]
        return np.stack([*place, speed * np.cos(phase), speed * np.cos(2.0 * phase), still], axis=1)

    def errors(self, state: State) -> tuple[Array, Array]:
        """Position and velocity relative to the target, [N, 3] each."""
        target = state.readouts["memory"][:, _PHASE + 1 :]
        return state.qpos[:, :3] - target[:, :3], state.qvel[:, :3] - target[:, 3:]
