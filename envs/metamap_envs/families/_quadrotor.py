"""Quadrotors of any size: a free body, four rotors whose speed follows the command, and RAPTOR's observation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._parameters import declared
from metamap_envs.families._quadrotor_control import GeometricController
from metamap_envs.family import Family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["MASS", "PARAMETERS", "ROTORS", "Quadrotor", "arm_lengths"]

GRAVITY = 9.81  # m/s^2
MASS = 0.0306  # kg; this and what follows is l2f's Crazyflie
ARM = 0.028 * math.sqrt(2.0)  # m from the centre to a rotor
INERTIA = np.array([9.416556729130406e-06, 9.644051701582312e-06, 1.745951732253285e-05])  # kg m^2
_THRUSTS = np.array([0.00352526, 0.01437313, 0.09223048])  # N of one rotor by powers of its speed, full speed being 1
CURVE = _THRUSTS / _THRUSTS.sum()  # the same as shares of the largest thrust; all vehicles have it, as in l2f
ROTORS = ("front_right", "back_right", "back_left", "front_left")  # RAPTOR's order
_SIDES = np.array([[1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]) / math.sqrt(2.0)  # x forward, y to the left
_LAST = slice(len(ROTORS), 2 * len(ROTORS))  # place of the last action among the activations
_SPINS = (-1.0, 1.0, -1.0, 1.0)  # sign of a rotor's torque on the body about z

_PAYLOAD_PLACE = np.array([0.1, 0.1, -0.3])  # arm lengths from the centre
_PAYLOAD_RADIUS = 0.15  # arm lengths; a ball

_STARTS_AT_HOVER = 0.1  # share of the episodes that start at rest at the target; this and what follows is l2f's
_START_PLACE = 10.0  # arm lengths along each axis
_START_ANGLE = 1.0  # rad; l2f declares a largest angle of 90 degrees, and its code draws up to this one
_START_SPEED, _START_RATE = 1.0, 1.0  # m/s, rad/s along each axis
_START_ROTORS = 0.5  # of full speed
_FARTHEST = 20.0  # arm lengths along each axis
_LARGEST_SPEED, _LARGEST_RATE = 10.0, 35.0  # m/s, rad/s along each axis

_WEIGHTS = {"position": 0.6, "attitude": 0.2, "rates": 0.1, "change": 0.1}
_HALF_DISTANCE = 2.0  # arm lengths; an error of so much costs half of what an infinite one does
_HALF_RATE = 10.0  # rad/s, the same


_VEHICLE = (
    declared("mass", "kg", (0.02, 5.0), ((0.012, 0.02), (5.0, 8.0)), MASS, "mass without payload", "log"),
    declared(
        "thrust_to_weight",
        "1",
        (1.5, 5.0),
        ((1.35, 1.5), (5.0, 6.0)),
        round(4.0 * _THRUSTS.sum() / (MASS * GRAVITY), 6),
        "largest thrust of all four rotors in weights of the vehicle without payload",
    ),
    declared(
        "torque_to_inertia",
        "rad/s^2",
        (40.0, 1200.0),
        ((30.0, 40.0), (1200.0, 1500.0)),
        round(ARM * _THRUSTS.sum() / INERTIA[0], 6),
        "arm times the largest thrust of one rotor over the moment of inertia about the x axis",
    ),
    declared("motor_rise", "s", (0.03, 0.1), ((0.02, 0.03), (0.1, 0.13)), 0.055455, "time constant of a faster rotor"),
    declared("motor_fall", "s", (0.03, 0.3), ((0.02, 0.03), (0.3, 0.39)), 0.249394, "time constant of a slower rotor"),
    declared(
        "torque_constant",
        "m",
        (0.005, 0.05),
        ((0.003, 0.005), (0.05, 0.065)),
        0.004665,
        "torque about z in N m that a rotor exerts for each N of its thrust",
    ),
    declared(
        "arm",
        "1",
        (0.9, 1.1),
        ((0.8, 0.9), (1.1, 1.2)),
        1.0,
        "factor on the arm length that goes with the mass, that of a Crazyflie of the same density",
    ),
)
_IN_FLIGHT = (
    declared(
        "payload", "1", (0.0, 0.2), ((0.2, 0.35),), 0.0, "mass of a payload, off centre, as a share of the vehicle's"
    ),
    *(
        declared(
            f"rotor_{number}", "1", (0.8, 1.0), ((0.5, 0.8),), 1.0, f"factor on thrust and torque of the {name} rotor"
        )
        for number, name in enumerate((rotor.replace("_", " ") for rotor in ROTORS), 1)
    ),
    *(
        declared(
            f"wind_{axis}", "1", (-0.1, 0.1), ((-0.2, -0.1), (0.1, 0.2)), 0.0, f"force of wind along {axis}, in weights"
        )
        for axis in "xy"
    ),
)
PARAMETERS = (*_VEHICLE, *_IN_FLIGHT)
_COLUMN = {parameter.name: column for column, parameter in enumerate(PARAMETERS)}
_MOTORS = [_COLUMN["motor_rise"], _COLUMN["motor_fall"]]


def arm_lengths(mass: Any, arm: Any) -> Any:
    """Distance in m from the centre to a rotor: it goes with the cube root of the mass."""
    return ARM * np.cbrt(mass / MASS) * arm


def _mjcf(integrators: tuple[str, ...]) -> str:
    """The Crazyflie; drawn only, nothing collides. Inertia and gears are written by `Quadrotor.apply`."""
    rotors = [(rotor, *(ARM * side).tolist()) for rotor, side in zip(ROTORS, _SIDES, strict=True)]
    sites = "".join(f'<site name="{rotor}" pos="{x!r} {y!r} 0" size="{0.1 * ARM!r}"/>' for rotor, x, y in rotors)
    discs = "".join(
        f'<geom type="cylinder" pos="{x!r} {y!r} {0.12 * ARM!r}" size="{0.45 * ARM!r} {0.03 * ARM!r}"'
        f' rgba="{".85 .25 .15" if x > 0 else ".2 .2 .25"} .8"/>'
        f'<geom type="capsule" fromto="0 0 0 {x!r} {y!r} 0" size="{0.06 * ARM!r}" rgba=".3 .3 .35 1"/>'
        for _, x, y in rotors
    )
    motors = "".join(f'<general name="{rotor}" site="{rotor}" gear="0 0 1 0 0 0"/>' for rotor, *_ in rotors)
    memory = "".join(
        f'<general name="{name}" site="{ROTORS[0]}" dyntype="integrator" gainprm="0"/>' for name in integrators
    )
    return f"""<mujoco model="quadrotor">
<option timestep="0.005" integrator="RK4" gravity="0 0 {-GRAVITY}"/>
<statistic extent="{20.0 * ARM!r}" center="0 0 0"/>
<visual><map znear="0.005"/><headlight ambient=".4 .4 .4"/></visual>
<default><geom contype="0" conaffinity="0"/></default>
<asset>
<texture name="sky" type="skybox" builtin="gradient" rgb1=".75 .85 .95" rgb2=".3 .45 .65" width="64" height="64"/>
<texture name="ground" type="2d" builtin="checker" rgb1=".55 .6 .55" rgb2=".65 .7 .65" width="64" height="64"/>
<material name="ground" texture="ground" texrepeat="16 16"/>
</asset>
<worldbody>
<light directional="true" dir="-.3 .2 -1" diffuse=".6 .6 .6"/>
<geom name="ground" type="plane" pos="0 0 {-20.0 * ARM!r}" size="{60.0 * ARM!r} {60.0 * ARM!r} .1" material="ground"/>
<site name="target" size="{0.25 * ARM!r}" rgba=".1 .7 .2 .6"/>
<body name="vehicle"><freejoint/>
<inertial pos="0 0 0" mass="{MASS!r}" diaginertia="{" ".join(map(repr, INERTIA.tolist()))}"/>
<geom type="box" size="{0.3 * ARM!r} {0.2 * ARM!r} {0.1 * ARM!r}" rgba=".15 .3 .6 1"/>
{discs}{sites}
<body name="payload" pos="{" ".join(map(repr, (ARM * _PAYLOAD_PLACE).tolist()))}">
<inertial pos="0 0 0" mass="0" diaginertia="0 0 0"/></body>
</body>
</worldbody>
<actuator>{motors}{memory}</actuator>
</mujoco>"""


class Quadrotor(Family):
    """A vehicle that is drawn from RAPTOR's ranges, and observes what RAPTOR does.

    Physics, of l2f: a rotor's speed r in [0, 1] follows the set-point u = (a + 1) / 2 of its action with time constant
    ``motor_rise`` or ``motor_fall``, dr/dt = (u - r) / tau. Its thrust along the body's z axis is F c(r), F the largest
    one, ``thrust_to_weight`` mass g / 4, and c(r) the Crazyflie's curve, .032 + .131 r + .837 r^2; its torque about z
    is ``torque_constant`` times that, negative for front right and back left. There is no drag and no ground. RK4 at 5
    ms, two steps for each environment step of 10 ms; the thrust of a MuJoCo step is the exact mean over it. Axes are x
    forward, y left, z up.

    ``payload`` and ``rotor_1`` to ``rotor_4`` (front right, back right, back left, front left) and ``wind_x``,
    ``wind_y`` are what may appear in flight. A vehicle can hold its height and attitude where ``thrust_to_weight``
    times the weakest rotor's factor exceeds 1 + ``payload``.

    Action (4): set-points in [-1, 1] of the rotors, in the order above; larger ones are clipped. Observation (22):
    position minus target (3) in m, rotation matrix from body to world, row by row (9), velocity minus target's in m/s
    (3), angular velocity about the body's axes in rad/s (3), last action (4).

    Start, of l2f: at rest at the target in a tenth of the episodes, else up to 10 arm lengths away along each axis,
    turned by up to 1 rad about any axis, up to 1 m/s and 1 rad/s along each; rotors at up to half of their speed, and
    the last action equal to them. Termination: more than 20 arm lengths from the target, 10 m/s or 35 rad/s along any
    axis.
    """

    embodiment = "quadrotor"
    horizon = 500
    frame_skip = 2
    inner_loop = True
    in_flight: ClassVar[tuple[str, ...]] = tuple(parameter.name for parameter in _IN_FLIGHT)
    """Names of the parameters that may change in flight."""
    integrators: ClassVar[tuple[str, ...]] = tuple(f"{kind}_{rotor}" for kind in ("speed", "last") for rotor in ROTORS)
    """Names of the activations: speeds of the rotors, then the last action."""
    readouts: ClassVar[Mapping[str, Readout]] = {"memory": Readout("act")}
    camera: ClassVar[Mapping[str, Any]] = {"lookat": np.zeros(3), "elevation": -20.0, "azimuth": 135.0}

    # physics ----------------------------------------------------------------------------------------------------

    def compile(self) -> mujoco.MjModel:
        """Compile the Crazyflie."""
        model = self.read_spec().compile()
        self.apply(model, self.task())
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def read_spec(self) -> mujoco.MjSpec:
        """The Crazyflie, but for its thrusts."""
        return mujoco.MjSpec.from_string(_mjcf(self.integrators))

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Write size, masses, inertia, gears and wind."""
        arm = float(arm_lengths(task["mass"], task["arm"]))
        thrust = task["thrust_to_weight"] * task["mass"] * GRAVITY / len(ROTORS)
        _scale(model, arm / ARM)
        vehicle, payload = model.body("vehicle").id, model.body("payload").id
        model.body_mass[vehicle] = task["mass"]
        model.body_inertia[vehicle] = INERTIA * (arm * thrust / task["torque_to_inertia"] / INERTIA[0])
        model.body_mass[payload] = task["payload"] * task["mass"]
        model.body_inertia[payload] = 0.4 * model.body_mass[payload] * (_PAYLOAD_RADIUS * arm) ** 2
        for number, (rotor, spin) in enumerate(zip(ROTORS, _SPINS, strict=True), 1):
            gear = thrust * task[f"rotor_{number}"]
            model.actuator(rotor).gear[[2, 5]] = gear, gear * spin * task["torque_constant"]
        model.opt.gravity[:2] = GRAVITY * task["wind_x"], GRAVITY * task["wind_y"]  # a force in proportion to the mass
        return True

    @cached_property
    def action_size(self) -> int:
        """One set-point for each rotor."""
        return len(ROTORS)

    @property
    def action_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """From standstill to full speed."""
        ones = np.ones(len(ROTORS), dtype=np.float32)
        return -ones, ones

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> Array:
        """Mean thrusts of the rotors over a MuJoCo step as shares of the largest, and rates of the integrators."""
        seconds = self.base_model.opt.timestep
        asked = np.clip(actions.astype(np.float64), -1.0, 1.0)
        wanted, speeds = (asked + 1.0) / 2.0, np.ascontiguousarray(activations[:, : len(ROTORS)])
        tau = np.where(wanted >= speeds, values[:, _MOTORS[:1]], values[:, _MOTORS[1:]])
        decay, gap = np.exp(-seconds / tau), speeds - wanted
        mean = wanted + gap * (1.0 - decay) * (tau / seconds)
        square = wanted * (2.0 * mean - wanted) + gap * gap * (1.0 - decay * decay) * (tau / (2.0 * seconds))
        thrusts = CURVE[0] + CURVE[1] * mean + CURVE[2] * square
        memory = np.concatenate([wanted + gap * decay, asked, self.further_memory(activations, values)], axis=1)
        return np.concatenate([thrusts, (memory - activations) / seconds], axis=1)

    def further_memory(self, activations: Array, values: Array) -> Array:
        """The activations after rotors and last action as they are after a MuJoCo step, [N, na - 8]. Default: none."""
        return np.empty((len(activations), 0))

    # behaviour --------------------------------------------------------------------------------------------------

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """At rest at the origin, or anywhere around it, in motion."""
        if generator.random() < _STARTS_AT_HOVER:
            return np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]), np.zeros(6)
        arm = float(arm_lengths(task["mass"], task["arm"]))
        place = generator.uniform(-_START_PLACE * arm, _START_PLACE * arm, 3)
        axis, half = generator.standard_normal(3), 0.5 * generator.uniform(0.0, _START_ANGLE)
        turned = np.sin(half) * axis / np.linalg.norm(axis)
        velocity = generator.uniform(-_START_SPEED, _START_SPEED, 3)
        rates = generator.uniform(-_START_RATE, _START_RATE, 3)
        return np.concatenate([place, [np.cos(half)], turned]), np.concatenate([velocity, rates])

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array:
        """Rotors at some speed, and the action that would hold it."""
        speeds = generator.uniform(0.0, _START_ROTORS, len(ROTORS))
        return np.concatenate([speeds, 2.0 * speeds - 1.0])

    def errors(self, state: State) -> tuple[Array, Array]:
        """Position in m and velocity in m/s relative to the target, [N, 3] each. Default: a target at the origin."""
        return state.qpos[:, :3], state.qvel[:, :3]

    def observe(self, state: State) -> Array:
        """Errors of position and velocity, rotation matrix, angular velocity, last action."""
        position, velocity = self.errors(state)
        rotation, last = _rotations(state.qpos[:, 3:7]), state.readouts["memory"][:, _LAST]
        return np.concatenate([position, rotation, velocity, state.qvel[:, 3:], last], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """1 less the four costs, each of which is at most its weight: between 0 and 1."""
        position, _ = self.errors(after)
        distance = np.sqrt(np.vecdot(position, position)) / self.arms(values)
        rates = np.ascontiguousarray(after.qvel[:, 3:])
        rate = np.sqrt(np.vecdot(rates, rates))
        change = np.clip(actions.astype(np.float64), -1.0, 1.0) - before.readouts["memory"][:, _LAST]
        costs = {
            "position": distance / (distance + _HALF_DISTANCE),
            "attitude": np.sum(np.square(after.qpos[:, 4:7]), axis=1),  # (1 - cos angle) / 2
            "rates": rate / (rate + _HALF_RATE),
            "change": np.vecdot(change, change) / (4.0 * len(ROTORS)),
        }
        terms = {f"reward_{name}": -_WEIGHTS[name] * cost for name, cost in costs.items()}
        return 1.0 + sum(terms.values()), terms

    def controller(self, tasks: Sequence[Task]) -> GeometricController:
        """A geometric controller; of position relative to the target."""
        return GeometricController(self, tasks, CURVE)

    def arms(self, values: Array) -> Array:
        """Arm lengths [N] in m of vehicles with parameter values [N, P]."""
        columns = np.ascontiguousarray(values[:, [_COLUMN["mass"], _COLUMN["arm"]]].T)
        lengths: Array = arm_lengths(columns[0], columns[1])
        return lengths

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Too far away, too fast or tumbling."""
        position, _ = self.errors(after)
        far = np.abs(position) > _FARTHEST * self.arms(values)[:, None]
        fast, tumbling = np.abs(after.qvel[:, :3]) > _LARGEST_SPEED, np.abs(after.qvel[:, 3:]) > _LARGEST_RATE
        ended: NDArray[np.bool_] = np.logical_or.reduce(far | fast | tumbling, axis=1)
        return ended


def _scale(model: mujoco.MjModel, factor: float) -> None:
    """Make everything so many times as large, the view of it included."""
    for field in (model.geom_pos, model.geom_size, model.geom_rbound, model.geom_aabb, model.site_pos, model.site_size):
        field *= factor
    model.body_pos *= factor
    model.stat.extent *= factor
    model.stat.meansize *= factor


def _rotations(quaternions: Array) -> Array:
    """Rotation matrices, row by row [N, 9], of unit quaternions (w, x, y, z) [N, 4]."""
    w, x, y, z = np.ascontiguousarray(quaternions.T)
    rows = [
        *(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        *(2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        *(2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    ]
    return np.stack(rows, axis=1)
