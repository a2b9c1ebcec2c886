"""Cart and pole whose motor pulls with unknown sign and strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.family import Array, Family, State, register_family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.task import Task

__all__ = ["CartpoleSwingup"]

_FORCE = 300.0  # N at action 1; InvertedPendulum-v5's control range of 3 times its gear of 100
_START_NOISE = 0.01  # m, rad, m/s and rad/s; dm_control's
_GRAVITY = 9.81  # m/s^2
_CENTRE_MARGIN = 1.0  # m, half of the rail; dm_control's 2 m go with its rail of 1.8 m
_VELOCITY_MARGIN = 5.0  # rad/s; dm_control's
_VALUE_AT_MARGIN = 0.1  # dm_control's


def _near_zero(value: Array, margin: float) -> Array:
    """dm_control's Gaussian `tolerance`: 1 at zero, 0.1 at ``margin``."""
    near: Array = np.exp(math.log(_VALUE_AT_MARGIN) * np.square(value / margin))
    return near


@register_family
class CartpoleSwingup(Family):
    """Gymnasium's inverted_pendulum.xml with a hinge that turns freely; the pole starts hanging and is to be held up.

    Observation (5): cart's x in m, cosine and sine of the pole's angle (0 is up), cart's velocity in m/s, pole's in rad/s.
    Action (1): the motor's force, in [-1, 1] times 300 N. No termination, horizon 100 (4 s).
    Reward: in [0, 1] per step, upright * centred * control * slow, as in dm_control's cartpole (``Balance._get_reward``
    with ``sparse=False``): ``(1 + cos angle) / 2``, ``(1 + g(x, 1 m)) / 2``, ``(4 + max(1 - a^2, 0)) / 5`` and
    ``(1 + g(angular velocity, 5 rad/s)) / 2``, where ``g(v, m)`` is 1 at 0 and 0.1 at m. The rail is 2 m long.
    Hidden: sign and strength of the motor, mass of the pole, gravity. With the sign unknown no single policy swings the
    pole up in both halves of the family, so adaptation is worth most of the return.
    """

    name = "cartpole-swingup"
    base_id = "InvertedPendulum-v5"
    embodiment = "cartpole"
    description = "Pole on a cart to swing up and hold, with a motor of unknown sign and strength"
    horizon = 100
    frame_skip = 2
    camera: ClassVar[Mapping[str, Any]] = {"trackbodyid": 0, "distance": 2.04}
    space = ParameterSpace(
        (
            Parameter(
                name="sign_motor",
                unit="1",
                low=-1.0,
                high=1.0,
                default=1.0,
                choices=(-1.0, 1.0),
                description="direction in which the motor pushes the cart",
            ),
            Parameter(
                name="strength_motor",
                unit="1",
                low=0.2,
                high=2.5,
                default=1.0,
                train=((0.5, 1.5),),
                out=((0.35, 0.5), (1.5, 2.0)),
                description="factor on the motor's force of 300 N",
            ),
            Parameter(
                name="pole_mass",
                unit="1",
                low=0.2,
                high=4.0,
                default=1.0,
                train=((0.5, 1.5),),
                out=((0.35, 0.5), (1.5, 2.0)),
                description="factor on the pole's mass of 5.0 kg and on its inertia",
            ),
            Parameter(
                name="gravity",
                unit="m/s^2",
                low=0.98,
                high=19.62,
                default=_GRAVITY,
                train=((4.91, 14.71),),
                out=((2.0, 4.91), (14.71, 19.62)),
                description="gravitational acceleration",
            ),
        )
    )
    physics_parameters = frozenset(space.names)

    def compile(self) -> mujoco.MjModel:
        """Compile the installed inverted_pendulum.xml with a hinge that turns freely and actions in [-1, 1]."""
        spec = gymnasium_asset("inverted_pendulum.xml")
        spec.joint("hinge").limited = mujoco.mjtLimited.mjLIMITED_FALSE
        motor = spec.actuator("slide")
        motor.ctrlrange = (-1.0, 1.0)
        motor.gear[0] = _FORCE
        return spec.compile()

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the motor's gear, the pole's mass with its inertia, and set gravity."""
        model.actuator("slide").gear[0] *= task["sign_motor"] * task["strength_motor"]
        pole = model.body("pole").id
        model.body_mass[pole] *= task["pole_mass"]
        model.body_inertia[pole] *= task["pole_mass"]
        model.opt.gravity[2] = -task["gravity"]
        return True

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Cart in the middle and pole hanging down, both at rest, with normal noise as in dm_control."""
        noise = _START_NOISE * generator.standard_normal(4)
        return np.array([0.0, math.pi]) + noise[:2], noise[2:]

    def observe(self, state: State) -> Array:
        """Position of the cart, angle as cos and sin, both velocities."""
        angle = state.qpos[:, 1:]
        return np.concatenate([state.qpos[:, :1], np.cos(angle), np.sin(angle), state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Product of four factors in [0, 1]; see the class."""
        upright = (1.0 + np.cos(after.qpos[:, 1])) / 2.0
        centred = (1.0 + _near_zero(after.qpos[:, 0], _CENTRE_MARGIN)) / 2.0
        control = (4.0 + np.maximum(1.0 - np.square(actions[:, 0], dtype=np.float64), 0.0)) / 5.0
        slow = (1.0 + _near_zero(after.qvel[:, 1], _VELOCITY_MARGIN)) / 2.0
        return upright * centred * control * slow, {"upright": upright, "centred": centred, "slow": slow}
