"""dm_control's finger that spins a body, with a hidden target spin, unknown lengths, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.families._dmc import VALUE_AT_MARGIN, Dmc, at_least, choice_grid, grid, random_joints
from metamap_envs.parameters import Parameter
from metamap_envs.registry import register_family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["DmcFingerLength", "DmcFingerSpeed", "DmcFingerSpeedLength"]

_SPIN_SPEED = 15.0  # rad/s; dm_control's
_HINGE_DAMPING = 0.03  # N m s/rad; dm_control's `spin` sets it in place of the file's 0.5
_ATTEMPTS = 1000  # to draw a start without contact; dm_control's
_HINGE = 2  # the spinner's joint; the finger's two come first


def _speed(choices: tuple[float, ...]) -> Parameter:
    return Parameter(
        name="target_speed",
        unit="rad/s",
        low=-15.0,
        high=15.0,
        default=_SPIN_SPEED,
        choices=choices,
        description="least speed of the spinner that is worth the full reward; its sign is the direction",
    )


_LENGTH = Parameter(
    name="length",
    unit="m",
    low=0.1,
    high=0.34,
    default=0.16,
    choices=choice_grid(0.1, 0.34, 0.03),
    description="length of the finger's outer link; size and distance of the spinner follow",
)


class DmcFinger(Dmc):
    """Base of the families of dm_control's `finger.spin`.

    Observation (9): both joint angles of the finger, x and z of the spinner's tip from its axis, velocities of finger
    and spinner, the two touch sensors as log(1 + force). Action (2): torques in [-1, 1]. A step is 0.02 s. The start is
    dm_control's: all angles random, without a contact.
    Source: `dm_control/suite/finger.py`; lengths as in HyperZero's Contextual Control Suite, which leaves touch sensors
    and tip where they are.
    """

    base_id = "dm_control/finger-spin"
    embodiment = "dmc-finger"
    frame_skip = 2
    model_file = "finger.xml"
    readouts: ClassVar[Mapping[str, Readout]] = {
        "tip": Readout("site_xpos", "site", "tip"),
        "spinner": Readout("xpos", "body", "spinner"),
        "touchtop": Readout("sensordata", "sensor", "touchtop"),
        "touchbottom": Readout("sensordata", "sensor", "touchbottom"),
    }
    camera: ClassVar[Mapping[str, Any]] = {"distance": 1.5}

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Let the spinner turn easily, as `finger.spin` does."""
        spec.joint("hinge").damping[0] = _HINGE_DAMPING

    @staticmethod
    def set_length(spec: mujoco.MjSpec, length: float) -> None:
        """Lengthen the outer link, and put a larger spinner farther away."""
        spec.geom("distal").fromto = (0.0, 0.0, 0.0, 0.0, 0.0, -length)
        spec.geom("fingertip").fromto = (0.0, 0.0, -(length - 0.03), 0.0, 0.0, -(length + 0.001))
        spec.body("spinner").pos = (length + 0.04, 0.0, 0.4)
        for cap in ("cap1", "cap2"):
            spec.geom(cap).size[1] = length - 0.07

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Random angles at which nothing touches, at rest."""
        model = self.model(task)
        data = mujoco.MjData(model)
        for _ in range(_ATTEMPTS):
            data.qpos[:] = random_joints(model, generator)
            mujoco.mj_fwdPosition(model, data)
            if not data.ncon:
                return np.array(data.qpos), np.zeros(model.nv)
        raise MetaMapError(f"family {self.name!r}: found no start without contact in {_ATTEMPTS} attempts")

    def observe(self, state: State) -> Array:
        """Angles and tip, velocities, touch."""
        tip = (state.readouts["tip"] - state.readouts["spinner"])[:, [0, 2]]
        touch = np.log1p(np.stack([state.readouts["touchtop"], state.readouts["touchbottom"]], axis=1))
        return np.concatenate([state.qpos[:, :_HINGE], tip, state.qvel, touch], axis=1)

    def spinning(
        self, after: State, target: Array | float, value_at_margin: float = VALUE_AT_MARGIN
    ) -> tuple[Array, dict[str, Array]]:
        """What the spinner's speed is worth, [N], for targets in rad/s whose sign is the direction."""
        speed: Array = after.qvel[:, _HINGE]
        worth = at_least(np.sign(target) * speed, np.abs(target), np.abs(target), value_at_margin)
        return worth, {"spin": speed}


@register_family
class DmcFingerSpeed(DmcFinger):
    """dm_control's finger with a hidden target spin, one way or the other.

    Reward: dm_control's linear tolerance of the spinner's speed w, in the direction of the target m: 1 from w = m on,
    0.1 at rest, less the other way, never under 0. dm_control's own is 1 below -15 rad/s and else 0.
    Source: HyperZero's `finger_spin` with `sigmoid: linear`, `value_at_margin: 0.1` and a margin of m. Its grid of
    margins is not in its code: 1 to 15 by 1 and their negatives are ours. 20 % of the 30 settings train.
    """

    name = "dmc-finger-speed"
    description = "dm_control's finger with a hidden target spin, one way or the other"
    space = grid(_speed(choice_grid(1.0, 15.0, 1.0, both_signs=True)))

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the spinner's speed is worth."""
        return self.spinning(after, values[:, 0])


@register_family
class DmcFingerLength(DmcFinger):
    """dm_control's finger with an outer link of another length, and a spinner to match.

    Reward: ``w / 15`` in [0, 1], w the spinner's speed in rad/s.
    Source: HyperZero's `finger_spin` with `dynamics: finger` and its default reward. Its grid of lengths is not in its
    code: .1 to .34 m by .03 are ours, around dm_control's .16. 20 % of the 9 settings train.
    """

    name = "dmc-finger-length"
    description = "dm_control's finger with an outer link of unknown length, and a spinner to match"
    space = grid(_LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the spinner's speed is worth, with dm_control's target."""
        return self.spinning(after, _SPIN_SPEED, value_at_margin=0.0)


@register_family
class DmcFingerSpeedLength(DmcFinger):
    """dm_control's finger with a hidden target spin and an outer link of another length.

    Reward: as in `dmc-finger-speed`.
    Source: as those of speed and length alone; spins of 3 to 15 rad/s by 3. 20 % of the 45 settings train.
    """

    name = "dmc-finger-speed-length"
    description = "dm_control's finger with a hidden target spin and an outer link of unknown length"
    space = grid(_speed(choice_grid(3.0, 15.0, 3.0)), _LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the spinner's speed is worth."""
        return self.spinning(after, values[:, 0])
