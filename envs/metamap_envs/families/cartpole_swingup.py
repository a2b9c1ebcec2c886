"""Cart and pole whose motor pulls with unknown sign and strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._parameters import GRAVITY
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["FORCE", "CartpoleSwingup"]

FORCE = 300.0  # N at action 1; InvertedPendulum-v5's control range of 3 times its gear of 100
_START_NOISE = 0.01  # m, rad, m/s and rad/s; dm_control's
_CENTRE_MARGIN = 1.0  # m, half of the rail; dm_control's 2 m go with a rail of +-1.8 m
_VELOCITY_MARGIN = 5.0  # rad/s; dm_control's
_VALUE_AT_MARGIN = 0.1  # dm_control's


def _near_zero(values: Array, margin: float) -> Array:
    """dm_control's Gaussian `tolerance`: 1 at zero, 0.1 at +-``margin``."""
    near: Array = np.exp(math.log(_VALUE_AT_MARGIN) * np.square(values / margin))
    return near


def _factor(name: str, description: str) -> Parameter:
    return Parameter(
        name=name,
        unit="1",
        low=0.2,
        high=2.5,
        default=1.0,
        train=((0.5, 1.5),),
        out=((0.35, 0.5), (1.5, 2.0)),
        description=description,
    )


_SIGN = Parameter(
    name="sign_motor",
    unit="1",
    low=-1.0,
    high=1.0,
    default=1.0,
    choices=(-1.0, 1.0),
    description="direction in which the motor pushes the cart",
)


@register_family
class CartpoleSwingup(Family):
    """Swing a hanging pole up and hold it, with a motor of unknown sign and strength; experts train in seconds.

    Physics: Gymnasium's inverted_pendulum.xml (cart 10.5 kg, pole 5.0 kg and 0.6 m, rail +-1 m, RK4 at 0.02 s, damping
    1 in both joints) with three edits: the hinge turns freely, actions are in [-1, 1], and action 1 is 300 N, the most
    that InvertedPendulum-v5 gives. The motor's force is times ``sign_motor * strength_motor``, the pole's mass and
    inertia times ``pole_mass``. Wrong about the sign, a policy pushes the cart the wrong way: none fits all tasks.

    Start: at rest in the middle, the pole hanging, with normal noise of 0.01 on all four numbers. Observation (5): the
    cart's x in m, cos and sin of the pole's angle (0: upright), velocities in m/s and rad/s. Action (1): in [-1, 1]. No
    termination, horizon 125 (5 s).

    Reward: ``upright * centred * small_control * small_velocity``, in [0, 1], from the state after the step and the
    action a: ``upright = (1 + cos(angle)) / 2``, ``centred = (1 + t(x, 1 m)) / 2``, ``small_control = (4 + max(0, 1 -
    a^2)) / 5``, ``small_velocity = (1 + t(angular velocity, 5 rad/s)) / 2``, with ``t(v, m) = 0.1^((v/m)^2)``.
    Source: start and reward are those of dm_control's `cartpole.swingup`, all four terms of it, but for the margin of
    ``centred``, which is 2 m there, on a rail of +-1.8 m. Sign, strength and gravity are in the ranges of DMA*-SH.
    """

    name = "cartpole-swingup"
    base_id = "InvertedPendulum-v5"
    embodiment = "cartpole"
    description = "Pole on a cart to swing up and hold, with a motor of unknown sign and strength"
    horizon = 125
    frame_skip = 2
    camera: ClassVar[Mapping[str, Any]] = {"trackbodyid": 0, "distance": 3.0}
    space = ParameterSpace(
        (
            _SIGN,
            _factor("strength_motor", "factor on the motor's force of 300 N"),
            _factor("pole_mass", "factor on the pole's mass of 5.0 kg and on its inertia"),
            GRAVITY,
        )
    )
    physics_parameters = frozenset(space.names)
    action_factors = (("sign_motor", "strength_motor"),)

    def compile(self) -> mujoco.MjModel:
        """Compile the installed inverted_pendulum.xml with a free hinge and a motor of 300 N at action 1."""
        spec = gymnasium_asset("inverted_pendulum.xml")
        spec.joint("hinge").limited = mujoco.mjtLimited.mjLIMITED_FALSE
        motor = spec.actuator("slide")
        motor.ctrlrange = (-1.0, 1.0)
        motor.gear[0] = FORCE
        return spec.compile()

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the motor's gear and the pole's mass with its inertia; set gravity."""
        model.actuator("slide").gear[0] *= task["sign_motor"] * task["strength_motor"]
        pole = model.body("pole").id
        model.body_mass[pole] *= task["pole_mass"]
        model.body_inertia[pole] *= task["pole_mass"]
        model.opt.gravity[2] = -task["gravity"]
        return True

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Cart in the middle, pole hanging, at rest but for noise."""
        noise = _START_NOISE * generator.standard_normal(4)
        return np.array([0.0, math.pi]) + noise[:2], noise[2:]

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """The pole's angle from its cos and sin, in [-pi, pi]; the rest as observed."""
        angle = np.arctan2(observations[:, 2:3], observations[:, 1:2])
        return np.concatenate([observations[:, :1], angle], axis=1), observations[:, 3:].copy()

    def observe(self, state: State) -> Array:
        """Position of the cart, cos and sin of the pole's angle, velocities."""
        angle = state.qpos[:, 1:]
        return np.concatenate([state.qpos[:, :1], np.cos(angle), np.sin(angle), state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The product of the four terms, each in [0, 1]."""
        force = actions[:, 0].astype(np.float64)
        terms: dict[str, Array] = {
            "upright": (1.0 + np.cos(after.qpos[:, 1])) / 2.0,
            "centred": (1.0 + _near_zero(after.qpos[:, 0], _CENTRE_MARGIN)) / 2.0,
            "small_control": (4.0 + np.maximum(1.0 - np.square(force), 0.0)) / 5.0,
            "small_velocity": (1.0 + _near_zero(after.qvel[:, 1], _VELOCITY_MARGIN)) / 2.0,
        }
        return terms["upright"] * terms["centred"] * terms["small_control"] * terms["small_velocity"], terms
