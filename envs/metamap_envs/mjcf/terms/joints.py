"""Positions and velocities of joints."""

from __future__ import annotations

from typing import ClassVar, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_envs.errors import MetaMapError
from metamap_envs.mjcf.binding import Binding, Measure
from metamap_envs.mjcf.terms.base import Quantity, quantity
from metamap_envs.settings import Number
from metamap_envs.state import Array, State

__all__ = ["Positions", "Velocities"]


@quantity("positions")
class Positions(Quantity):
    """Positions of joints: rad of hinges, m of slides, quaternions of ball joints, both of free joints.

    Attributes:
        joints: their names; default all, in the model's order.
        leave_out: joints that are left out.
        form: of hinges: the angle itself, or the cosines of all, then the sines of all.
    """

    short: ClassVar[str] = "joints"

    joints: tuple[str, ...] | None = None
    leave_out: tuple[str, ...] = ()
    form: Literal["angle", "cos_sin"] = "angle"

    def bind(self, binding: Binding) -> Measure:
        """Look up the joints."""
        joints = binding.joints(self.joints, self.leave_out)
        where = binding.positions(joints)
        if self.form == "angle":
            return Measure(lambda state: state.qpos[:, where], qpos=tuple(where))
        for joint in joints:
            if binding.model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_HINGE.value:
                name = binding.model.joint(joint).name
                raise MetaMapError(f"form cos_sin is for hinges, and joint {name!r} is none; choose with joints")

        def cos_sin(state: State) -> Array:
            return np.concatenate([np.cos(state.qpos[:, where]), np.sin(state.qpos[:, where])], axis=1)

        return Measure(cos_sin, qpos=tuple(where), cos_sin=True)


@quantity("velocities")
class Velocities(Quantity):
    """Velocities of joints: rad/s of hinges, m/s of slides; 3 numbers of ball joints, 6 of free joints.

    Attributes:
        joints: their names; default all, in the model's order.
        leave_out: joints that are left out.
        clip: largest absolute value; larger ones are clipped.
    """

    short: ClassVar[str] = "joints"

    joints: tuple[str, ...] | None = None
    leave_out: tuple[str, ...] = ()
    clip: Number | None = Field(default=None, gt=0)

    def bind(self, binding: Binding) -> Measure:
        """Look up the joints."""
        where, limit = binding.velocities(binding.joints(self.joints, self.leave_out)), self.clip
        if limit is None:
            return Measure(lambda state: state.qvel[:, where], qvel=tuple(where))

        def clipped(state: State) -> NDArray[np.float64]:
            return np.clip(state.qvel[:, where], -limit, limit)

        return Measure(clipped, qvel=tuple(where), limit=limit)
