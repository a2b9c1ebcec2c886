"""Unitree's Go1 on uneven ground, which may be slippery, with a weak or dead joint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from metamap_envs.families._go1 import LEGS
from metamap_envs.families._go1 import PARAMETERS as _FLAT
from metamap_envs.families._go1_trot import TrotController
from metamap_envs.families._parameters import declared
from metamap_envs.families._uneven_ground import ground_heights, replace_ground
from metamap_envs.families.go1_velocity import OFFSETS, Go1Velocity
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["Go1Uneven"]

_START_PLACE = 3.0  # m from the middle along each axis
_FEET = np.array([[0.19, 0.13], [0.19, -0.13], [-0.19, 0.13], [-0.19, -0.13]])  # m, of a standing robot

_STIFF = [0.9, 0.95, 0.001, 0.5, 2.0]  # MuJoCo's default; the model's own feet sink into the ground by their radius

_CHANGED = {
    "friction": declared(
        "friction", "1", (0.05, 4.5), ((0.04, 0.05), (4.5, 6.0)), 0.8, "sliding friction of feet and ground", "log"
    ),
    "joint_strength": declared(
        "joint_strength", "1", (0.0, 1.0), (), 0.5, "factor on the torque of the weak joint; 0 is dead"
    ),
}


@register_family
class Go1Uneven(Go1Velocity):
    """`go1-velocity` on uneven ground, where friction ranges over decades and the weak joint may be dead.

    Physics: those of `go1-velocity`, with a height field of 50 m by 50 m in place of the plane: noise of wavelengths
    between .4 and 2 m whose amplitudes go with them, points 10 cm apart, standard deviation 3 cm, of the slope .16 (9
    degrees). It is the same in all tasks and not observed; beyond its edge there is nothing. Feet are
    stiff and friction cones elliptic, as feet would otherwise sink into the height field and catch on it.

    Observation (45) and action (12): those of `go1-velocity`.

    Reward: 1 less the costs of `go1-velocity`, in [0, 1]; heights of feet are those above the ground.

    Start: up to 3 m from the middle of the field along each axis, in any direction, level, as high above the ground at
    the highest foot as in `go1-velocity`; else as there. Termination: trunk less than 12 cm above the ground below it,
    or tilted by more than 60 degrees. Horizon 500 (10 s).
    Source: as `go1-velocity`; the ground is ours, and so are the decades of friction and the dead joint.
    """

    name = "go1-uneven"
    base_id = "MetaMap/Go1Uneven-v0"
    description = "Unitree Go1 on uneven ground: friction, payload, motors and a weak or dead joint are hidden"
    space = ParameterSpace(tuple(_CHANGED.get(parameter.name, parameter) for parameter in _FLAT))
    physics_parameters = frozenset(space.names)
    lowest = 0.12

    @staticmethod
    def read_spec() -> mujoco.MjSpec:
        """The installed model on a height field, but for gains and what else a task says."""
        spec = Go1Velocity.read_spec()
        replace_ground(spec, "ground")
        for leg in LEGS:
            spec.geom(leg).solimp = _STIFF
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        return spec

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Standing somewhere near the middle, in any direction, with noise."""
        qpos, qvel = super().initial_state(task, generator)
        qpos[:2] = generator.uniform(-_START_PLACE, _START_PLACE, 2)
        heading = generator.uniform(-math.pi, math.pi)
        cos, sin = math.cos(heading), math.sin(heading)
        feet = qpos[:2] + _FEET @ np.array([[cos, sin], [-sin, cos]])
        qpos[2] += float(ground_heights(feet).max())
        qpos[3:7] = math.cos(heading / 2.0), 0.0, 0.0, math.sin(heading / 2.0)
        return qpos, qvel

    def controller(self, tasks: Sequence[Task]) -> TrotController:
        """A trot that is given no parameter: a start for training."""
        return TrotController(len(tasks), OFFSETS)

    def ground(self, places: Array) -> Array:
        """Heights of the height field."""
        return ground_heights(places)
