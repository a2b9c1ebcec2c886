"""Unitree's Go1 on uneven ground, which may be slippery, with legs mounted askew and a weak or dead joint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import mujoco
import numpy as np

from metamap_envs.families._go1 import JOINTS, LEGS, write_go1
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
_LINK, _THIGH, _CALF = 0.213, 0.9, -1.8  # m, length of thigh and calf; rad, the pose
_STIFF = [0.9, 0.95, 0.001, 0.5, 2.0]  # MuJoCo's default; the model's own feet sink into the ground by their radius
_MOUNTED = tuple(joint for joint in JOINTS if not joint.endswith("hip"))

_CHANGED = {
    "friction": declared(
        "friction", "1", (0.05, 1.0), ((0.04, 0.05), (1.0, 1.5)), 0.8, "sliding friction of feet and ground", "log"
    ),
    "joint_strength": declared(
        "joint_strength", "1", (0.0, 1.0), (), 0.5, "factor on the torque of the weak joint; 0 is dead"
    ),
}
_OFFSETS = tuple(
    declared(
        f"offset_{joint}",
        "rad",
        (-0.15, 0.15),
        ((-0.25, -0.15), (0.15, 0.25)),
        0.0,
        f"angle at which the link of {joint} is mounted, which its encoder does not show",
    )
    for joint in _MOUNTED
)


@register_family
class Go1Uneven(Go1Velocity):
    """`go1-velocity` on uneven ground, with legs mounted askew, friction over decades and a joint that may be dead.

    Physics: those of `go1-velocity`, with a height field of 50 m by 50 m in place of the plane: noise of wavelengths
    between .4 and 2 m whose amplitudes go with them, points 10 cm apart, standard deviation 1.5 cm, of the slope .08
    (4.5 degrees). It is the same in all tasks and not observed; beyond its edge there is nothing. Feet are
    stiff, and friction is at most 1 in training, as feet would otherwise sink into the height field. Each thigh and
    calf is turned about its joint by an offset, as after a repair where a leg is put on another tooth of its shaft:
    encoder and servo work as before, and are wrong by it.

    Observation (45) and action (12): those of `go1-velocity`; the angles are those of the encoders.

    Reward: 1 less the costs of `go1-velocity`, in [0, 1], with weights .5 of velocity (and a half of it at .5 m/s),
    .15 of lift and .05 of slip; heights of feet are those above the ground. With the weights of `go1-velocity` (.3
    of each of velocity and lift, a half at .3 m/s) the first tenth of a metre per second at a command of .65 m/s pays
    .013 a step, which is less than the slip and turning of a poor trot cost, and standing is a local optimum.

    Start: up to 3 m from the middle of the field along each axis, in any direction, level, as high above the ground at
    the highest foot as in `go1-velocity`, and higher by what the longest leg is longer; else as there. Termination:
    trunk less than 12 cm above the ground below it, or tilted by more than 60 degrees. Horizon 500 (10 s).
    Source: as `go1-velocity`; the ground is ours, and so are the decades of friction, the dead joint and the offsets.
    """

    name = "go1-uneven"
    base_id = "MetaMap/Go1Uneven-v1"
    version = 1
    description = "Unitree Go1 on uneven ground: friction, payload, motors, mounted legs and a dead joint are hidden"
    space = ParameterSpace((*(_CHANGED.get(parameter.name, parameter) for parameter in _FLAT), *_OFFSETS))
    physics_parameters = frozenset(space.names)
    lowest = 0.12
    weights: ClassVar[Mapping[str, float]] = {**Go1Velocity.weights, "velocity": 0.5, "lift": 0.15, "slip": 0.05}
    tolerance = 0.5

    @staticmethod
    def read_spec() -> mujoco.MjSpec:
        """The installed model on a height field, but for gains and what else a task says."""
        spec = Go1Velocity.read_spec()
        replace_ground(spec, "ground")
        for leg in LEGS:
            spec.geom(leg).solimp = _STIFF
        return spec

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Write friction, payload, servos and how legs are mounted."""
        write_go1(model, task)
        for joint in _MOUNTED:
            hinge = model.joint(f"{joint}_joint")
            mujoco.mju_axisAngle2Quat(model.body_quat[hinge.bodyid[0]], hinge.axis, task[f"offset_{joint}"])
        return True

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Standing somewhere near the middle, in any direction, with noise."""
        qpos, qvel = super().initial_state(task, generator)
        qpos[:2] = generator.uniform(-_START_PLACE, _START_PLACE, 2)
        heading = generator.uniform(-math.pi, math.pi)
        cos, sin = math.cos(heading), math.sin(heading)
        feet = qpos[:2] + _FEET @ np.array([[cos, sin], [-sin, cos]])
        qpos[2] += float(ground_heights(feet).max()) + _longer(task)
        qpos[3:7] = math.cos(heading / 2.0), 0.0, 0.0, math.sin(heading / 2.0)
        return qpos, qvel

    def controller(self, tasks: Sequence[Task]) -> TrotController:
        """A trot that is given no parameter: a start for training."""
        return TrotController(len(tasks), OFFSETS)

    def ground(self, places: Array) -> Array:
        """Heights of the height field."""
        return ground_heights(places)


def _longer(task: Task) -> float:
    """How much deeper than usual the lowest foot is below the trunk in the pose, m, at least 0."""
    thighs, calves = (
        np.array([task[f"offset_{leg}_{link}"] for leg in LEGS]) + angle
        for link, angle in (("thigh", _THIGH), ("calf", _CALF))
    )
    depths = _LINK * (np.cos(thighs) + np.cos(thighs + calves))
    return max(0.0, float(depths.max()) - 2.0 * _LINK * math.cos(_THIGH))
