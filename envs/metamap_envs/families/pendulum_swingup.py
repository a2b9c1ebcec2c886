"""Pendulum whose mass, length and motor are unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._cadm import cadm_factor
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["TORQUE", "PendulumSwingup"]

TORQUE = 2.0  # N m at action 1; Pendulum-v1's largest
_MASS = 1.0  # kg
_LENGTH = 1.0  # m
_GRAVITY = 10.0  # m/s^2
_TIMESTEP = 0.05  # s
_HINGE_HEIGHT = 0.75  # m; a hanging rod is in the picture of a camera that expects the ground at 0
_RADIUS = 0.05  # m, of the rod as it is drawn
_AXIAL_INERTIA = 1e-3  # kg m^2 about the rod's own axis, which it never turns about
_LARGEST_START = (math.pi, 1.0)  # rad, rad/s
_SPEED_WEIGHT = 0.1
_CONTROL_COST_WEIGHT = 0.001

_STRENGTH = Parameter(
    name="strength_motor",
    unit="1",
    low=0.1,
    high=2.0,
    default=1.0,
    train=((0.5, 1.5),),
    out=((0.35, 0.5), (1.5, 2.0)),
    description="factor on the motor's torque of 2 N m",
)


@register_family
class PendulumSwingup(Family):
    """Pendulum-v1 in MuJoCo: swing a rod up and hold it with a motor that is too weak to lift it at once.

    Physics: a uniform rod of 1 kg and 1 m on a hinge without friction, g = 10 m/s^2, semi-implicit Euler steps of
    0.05 s: the equations of Pendulum-v1, but for its limit of 8 rad/s on the speed, which is left out. The rod's mass
    is times ``mass``, its length times ``length``, the motor's torque times ``strength_motor``.

    Start: angle in [-pi, pi], 0 upright, speed in [-1, 1] rad/s, both uniform. Observation (3): cos and sin of the
    angle, speed in rad/s. Action (1): in [-1, 1], times 2 N m. No termination, horizon 200.
    Reward: ``-(angle^2 + 0.1 speed^2 + 0.001 torque^2)``, as in Pendulum-v1: angle in [-pi, pi) and speed from before
    the step, torque ``2 a``, whatever the motor makes of it.
    Source: `gymnasium/envs/classic_control/pendulum.py`; CaDM varies mass and length. The ranges are those of CaDM's
    HalfCheetah, and for the motor those of `cartpole-swingup`.
    """

    name = "pendulum-swingup"
    base_id = "Pendulum-v1"
    embodiment = "pendulum"
    description = "Pendulum to swing up and hold, of unknown mass, length and motor"
    horizon = 200
    frame_skip = 1
    camera: ClassVar[Mapping[str, Any]] = {"trackbodyid": 0, "distance": 4.0}
    space = ParameterSpace(
        (
            cadm_factor("mass", "factor on the rod's mass of 1 kg"),
            cadm_factor("length", "factor on the rod's length of 1 m, at the same mass"),
            _STRENGTH,
        )
    )
    physics_parameters = frozenset(space.names)
    structural_parameters = frozenset({"length"})

    def compile(self) -> mujoco.MjModel:
        """Compile a rod of 1 m."""
        return self._compile_rod(_LENGTH)

    def compile_task(self, task: Task) -> mujoco.MjModel:
        """Compile a rod of the task's length."""
        return self._compile_rod(_LENGTH * task["length"])

    def _compile_rod(self, length: float) -> mujoco.MjModel:
        """A rod on a hinge about y, upright at angle 0, and a motor."""
        spec = mujoco.MjSpec()
        spec.option.timestep, spec.option.gravity = _TIMESTEP, (0.0, 0.0, -_GRAVITY)
        spec.worldbody.add_light(pos=(0.0, -2.0, 3.0), dir=(0.0, 0.6, -0.8))
        pole = spec.worldbody.add_body(name="pole", pos=(0.0, 0.0, _HINGE_HEIGHT), explicitinertial=True, mass=_MASS)
        pole.ipos = (0.0, 0.0, length / 2)
        transverse = _MASS * length**2 / 12
        pole.inertia = (transverse, transverse, _AXIAL_INERTIA)
        pole.add_joint(name="hinge", type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0.0, 1.0, 0.0))
        pole.add_geom(
            name="rod",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=(0.0, 0.0, 0.0, 0.0, 0.0, length),
            size=(_RADIUS, 0.0, 0.0),
            contype=0,
            conaffinity=0,
            rgba=(0.8, 0.3, 0.3, 1.0),
        )
        motor = spec.add_actuator(name="motor", target="hinge", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.ctrlrange, motor.gear[0] = (-1.0, 1.0), TORQUE
        return spec.compile()

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the rod's mass with its inertia, and the motor's gear."""
        model.body_mass[:] *= task["mass"]
        model.body_inertia[:] *= task["mass"]
        model.actuator("motor").gear[0] *= task["strength_motor"]
        return True

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Any angle and a small speed, drawn in Pendulum-v1's order."""
        high = np.array(_LARGEST_START)
        angle, speed = generator.uniform(low=-high, high=high)
        return np.array([angle]), np.array([speed])

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """The angle from its cos and sin, in [-pi, pi], and the speed."""
        return np.arctan2(observations[:, 1:2], observations[:, :1]), observations[:, 2:].copy()

    def observe(self, state: State) -> Array:
        """Cos and sin of the angle, and the speed."""
        return np.concatenate([np.cos(state.qpos), np.sin(state.qpos), state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance from rest upright and control cost, all negative."""
        angle = (before.qpos[:, 0] + math.pi) % (2 * math.pi) - math.pi
        torque = TORQUE * np.clip(actions[:, 0].astype(np.float64), -1.0, 1.0)
        terms: dict[str, Array] = {
            "reward_angle": -np.square(angle),
            "reward_speed": -_SPEED_WEIGHT * np.square(before.qvel[:, 0]),
            "reward_ctrl": -_CONTROL_COST_WEIGHT * np.square(torque),
        }
        return terms["reward_angle"] + terms["reward_speed"] + terms["reward_ctrl"], terms
