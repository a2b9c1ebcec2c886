"""dm_control's cheetah with a hidden target speed, an unknown length of the torso, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._dmc import VALUE_AT_MARGIN, Dmc, at_least, choice_grid, grid
from metamap_envs.parameters import Parameter
from metamap_envs.registry import register_family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["DmcCheetahLength", "DmcCheetahSpeed", "DmcCheetahSpeedLength"]

_RUN_SPEED = 10.0  # m/s; dm_control's
_SETTLING_STEPS = 200  # dm_control's
_HEAD_OFFSET = 0.1  # m, of the head's centre beyond the torso's end


def _speed(choices: tuple[float, ...], default: float) -> Parameter:
    return Parameter(
        name="target_speed",
        unit="m/s",
        low=-10.0,
        high=10.0,
        default=default,
        choices=choices,
        description="least speed that is worth the full reward; its sign is the direction",
    )


_LENGTH = Parameter(
    name="length",
    unit="m",
    low=0.3,
    high=0.7,
    default=0.5,
    choices=choice_grid(0.3, 0.7, 0.05),
    description="half of the torso's length, from its middle to hip or shoulder",
)


class DmcCheetah(Dmc):
    """Base of the families of dm_control's `cheetah.run`.

    Observation (17): qpos without the x position (8), qvel (9). Action (6): torques in [-1, 1]. A step is 0.01 s. The
    start is dm_control's: joint angles uniform in their ranges, then 200 steps without action.
    Source: `dm_control/suite/cheetah.py`; lengths as in HyperZero's Contextual Control Suite.
    """

    base_id = "dm_control/cheetah-run"
    embodiment = "dmc-cheetah"
    frame_skip = 1
    model_file = "cheetah.xml"
    total_mass = 14.0  # the file's settotalmass
    unobserved_positions = 1
    readouts: ClassVar[Mapping[str, Readout]] = {"velocity": Readout("subtree_linvel", "body", "torso")}
    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0}

    @staticmethod
    def set_length(spec: mujoco.MjSpec, length: float) -> None:
        """Lengthen the torso, with head and thighs at its ends; the total of 14 kg stays."""
        spec.geom("torso").fromto = (-length, 0.0, 0.0, length, 0.0, 0.0)
        spec.geom("head").pos[0] = length + _HEAD_OFFSET
        spec.body("bthigh").pos[0], spec.body("fthigh").pos[0] = -length, length

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Random joint angles, settled."""
        model = self.model(task)
        data = mujoco.MjData(model)
        limited = model.jnt_limited == 1
        data.qpos[limited] = generator.uniform(*model.jnt_range[limited].T)
        mujoco.mj_step(model, data, nstep=_SETTLING_STEPS)
        return np.array(data.qpos), np.array(data.qvel)

    def observe(self, state: State) -> Array:
        """Positions without x, then velocities."""
        return np.concatenate([state.qpos[:, 1:], state.qvel], axis=1)

    def running(
        self, after: State, target: Array | float, value_at_margin: float = VALUE_AT_MARGIN
    ) -> tuple[Array, dict[str, Array]]:
        """What the speed is worth, [N], for targets in m/s whose sign is the direction."""
        speed: Array = after.readouts["velocity"][:, 0]
        worth = at_least(np.sign(target) * speed, np.abs(target), np.abs(target), value_at_margin)
        return worth, {"x_velocity": speed}


@register_family
class DmcCheetahSpeed(DmcCheetah):
    """dm_control's cheetah with a hidden target speed, forward or backward.

    Reward: dm_control's linear tolerance of the speed v of the centre of mass, in the direction of the target m: 1 from
    v = m on, 0.1 at rest, less the other way, never under 0.
    Source: HyperZero's `cheetah_run` with `sigmoid: linear`, `value_at_margin: 0.1` and margins of .5 to 10 by .5;
    negative margins, as its code and HyPoGen's read them, are the other direction. 20 % of the 40 settings train.
    """

    name = "dmc-cheetah-speed"
    description = "dm_control's cheetah with a hidden target speed, forward or backward"
    space = grid(_speed(choice_grid(0.5, 10.0, 0.5, both_signs=True), _RUN_SPEED))

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the speed is worth."""
        return self.running(after, values[:, 0])


@register_family
class DmcCheetahLength(DmcCheetah):
    """dm_control's cheetah with a torso of another length.

    Reward: dm_control's own, ``v / 10`` in [0, 1], v the speed of the centre of mass in m/s.
    Source: HyperZero's `cheetah_run` with `dynamics: cheetah`, lengths of .3 to .7 m by .05. 20 % of the 9 settings
    train.
    """

    name = "dmc-cheetah-length"
    description = "dm_control's cheetah with a torso of unknown length"
    space = grid(_LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the speed is worth, with dm_control's target."""
        return self.running(after, _RUN_SPEED, value_at_margin=0.0)


@register_family
class DmcCheetahSpeedLength(DmcCheetah):
    """dm_control's cheetah with a hidden target speed and a torso of another length.

    Reward: as in `dmc-cheetah-speed`.
    Source: HyperZero's grid of both: margins of 1 to 5 by 1, lengths of .3 to .7 m by .05. 20 % of the 45 settings
    train.
    """

    name = "dmc-cheetah-speed-length"
    description = "dm_control's cheetah with a hidden target speed and a torso of unknown length"
    space = grid(_speed(choice_grid(1.0, 5.0, 1.0), 5.0), _LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What the speed is worth."""
        return self.running(after, values[:, 0])
