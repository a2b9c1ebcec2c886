"""dm_control's planar walker with a hidden target speed, an unknown length of the torso, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._dmc import (
    VALUE_AT_MARGIN,
    Dmc,
    at_least,
    choice_grid,
    close_to_at_least,
    grid,
    random_joints,
)
from metamap_envs.parameters import Parameter
from metamap_envs.registry import register_family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["DmcWalkerLength", "DmcWalkerSpeed", "DmcWalkerSpeedLength"]

_BODIES = ("torso", "right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")
_STAND_HEIGHT = 1.2  # m; dm_control's
_WALK_SPEED = 1.0  # m/s; dm_control's
_XX, _XZ, _ZZ = 0, 2, 8  # in a rotation matrix of nine numbers


def _speed(choices: tuple[float, ...]) -> Parameter:
    return Parameter(
        name="target_speed",
        unit="m/s",
        low=-5.0,
        high=5.0,
        default=_WALK_SPEED,
        choices=choices,
        description="least speed that is worth the full reward; its sign is the direction",
    )


_LENGTH = Parameter(
    name="length",
    unit="m",
    low=0.1,
    high=0.5,
    default=0.3,
    choices=choice_grid(0.1, 0.5, 0.05),
    description="half of the length of the torso's cylinder",
)


class DmcWalker(Dmc):
    """Base of the families of dm_control's `walker.walk`.

    Observation (24): of each body the xx and xz of its rotation (14), the torso's height in m, qvel (9). Action (6):
    torques in [-1, 1]. A step is 0.025 s. The start is dm_control's: all angles random, in the air.
    Source: `dm_control/suite/walker.py`; lengths as in HyperZero's Contextual Control Suite.
    """

    base_id = "dm_control/walker-walk"
    embodiment = "dmc-walker"
    frame_skip = 10
    model_file = "walker.xml"
    readouts: ClassVar[Mapping[str, Readout]] = {
        "velocity": Readout("subtree_linvel", "body", "torso"),
        "position": Readout("xpos", "body", "torso"),
        **{body: Readout("xmat", "body", body) for body in _BODIES},
    }
    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0}

    @staticmethod
    def set_length(spec: mujoco.MjSpec, length: float) -> None:
        """Lengthen the torso to both ends; the legs stay where they are."""
        spec.geom("torso").size[1] = length

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Random angles, at rest."""
        return random_joints(self.base_model, generator), np.zeros(self.base_model.nv)

    def observe(self, state: State) -> Array:
        """Orientations, height, velocities."""
        rotations = np.concatenate([state.readouts[body][:, [_XX, _XZ]] for body in _BODIES], axis=1)
        return np.concatenate([rotations, state.readouts["position"][:, 2:], state.qvel], axis=1)

    def walking(
        self, after: State, target: Array | float, margin: Array | float, value_at_margin: float
    ) -> tuple[Array, dict[str, Array]]:
        """What standing and speed are worth, [N], for targets in m/s whose sign is the direction."""
        speed: Array = after.readouts["velocity"][:, 0]
        standing = close_to_at_least(after.readouts["position"][:, 2], _STAND_HEIGHT, _STAND_HEIGHT / 2)
        upright = (1.0 + after.readouts["torso"][:, _ZZ]) / 2
        stand = (3 * standing + upright) / 4
        move = at_least(np.sign(target) * speed, np.abs(target), margin, value_at_margin)
        return stand * (5 * move + 1) / 6, {"x_velocity": speed, "reward_stand": stand, "reward_move": move}


@register_family
class DmcWalkerSpeed(DmcWalker):
    """dm_control's walker with a hidden target speed, forward or backward.

    Reward: ``stand (5 move + 1) / 6``; stand is dm_control's, move its linear tolerance of the speed v of the centre of
    mass, in the direction of the target m: 1 from v = m on, 0.1 at rest, less the other way, never under 0.
    Source: HyperZero's `walker_walk` with `sigmoid: linear`, `value_at_margin: 0.1` and a margin of m. Its grid of
    margins is not in its code: .5 to 5 by .5 and their negatives are ours. 20 % of the 20 settings train.
    """

    name = "dmc-walker-speed"
    description = "dm_control's walker with a hidden target speed, forward or backward"
    space = grid(_speed(choice_grid(0.5, 5.0, 0.5, both_signs=True)))

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What standing and speed are worth."""
        return self.walking(after, values[:, 0], np.abs(values[:, 0]), VALUE_AT_MARGIN)


@register_family
class DmcWalkerLength(DmcWalker):
    """dm_control's walker with a torso of another length.

    Reward: dm_control's own of `walker.walk`, ``stand (5 move + 1) / 6``, with move 1 from 1 m/s on and 0 at rest.
    Source: HyperZero's `walker_walk` with `dynamics: walker`. Its grid of lengths is not in its code: .1 to .5 m by .05
    are ours, around dm_control's .3. 20 % of the 9 settings train.
    """

    name = "dmc-walker-length"
    description = "dm_control's walker with a torso of unknown length"
    space = grid(_LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What standing and speed are worth, with dm_control's target, margin and worth at the margin."""
        return self.walking(after, _WALK_SPEED, _WALK_SPEED / 2, 0.5)


@register_family
class DmcWalkerSpeedLength(DmcWalker):
    """dm_control's walker with a hidden target speed and a torso of another length.

    Reward: as in `dmc-walker-speed`.
    Source: as those of speed and length alone; speeds of 1 to 5 m/s by 1. 20 % of the 45 settings train.
    """

    name = "dmc-walker-speed-length"
    description = "dm_control's walker with a hidden target speed and a torso of unknown length"
    space = grid(_speed(choice_grid(1.0, 5.0, 1.0)), _LENGTH)
    physics_parameters = structural_parameters = frozenset({"length"})

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """What standing and speed are worth."""
        return self.walking(after, values[:, 0], np.abs(values[:, 0]), VALUE_AT_MARGIN)
