"""What terms of a declaration look up in a model: joints, objects, sensors and parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.state import Array, Readout, State

__all__ = ["Binding", "Measure", "Reference", "Step"]

Reference = float | str
"""A number, or the name of a parameter."""
_COUNTS = {"body": "nbody", "geom": "ngeom", "site": "nsite", "joint": "njnt", "sensor": "nsensor", "key": "nkey"}
_POSITION_SIZES, _VELOCITY_SIZES = (7, 4, 1, 1), (6, 3, 1, 1)  # of free, ball, slide and hinge joints
_PLACES = {"body": "xpos", "geom": "geom_xpos", "site": "site_xpos"}


@dataclass(frozen=True)
class Step:
    """A step of N environments, as terms of a reward see it.

    Attributes:
        before: states before it.
        after: states after it.
        actions: as the caller gave them, [N, A].
        values: the tasks' parameters, [N, P].
        names: of the parameters, P.
        seconds: how long it took, a number or [N, 1].
        ended: tells which episodes ended in ``after``, bool [N].
    """

    before: State
    after: State
    actions: NDArray[Any]
    values: Array
    names: tuple[str, ...]
    seconds: Any
    ended: Callable[[], NDArray[np.bool_]]

    def parameter(self, name: str) -> Array:
        """Values of a parameter, [N]."""
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True)
class Measure:
    """Numbers of a state that observation and ends are made of.

    Attributes:
        of: gives them, [N, k], from a state.
        qpos: elements of the positions that they are, in this order; empty if they are none.
        qvel: the same for velocities.
        cos_sin: whether they are the cosines of the positions, then the sines.
        limit: to which they are clipped.
    """

    of: Callable[[State], NDArray[Any]]
    qpos: tuple[int, ...] = ()
    qvel: tuple[int, ...] = ()
    cos_sin: bool = False
    limit: float = np.inf


@dataclass
class Binding:
    """A model that terms are bound to; they may add sensors to its specification, and say what they read.

    Attributes:
        spec: the specification.
        model: compiled from it, without the sensors that terms add.
        parameters: names of the family's parameters.
        folder: where modules of Python are looked for.
        readouts: derived quantities that the terms read, by key.
        used: parameters that terms name.
    """

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    parameters: tuple[str, ...]
    folder: Path
    readouts: dict[str, Readout] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    # objects ----------------------------------------------------------------------------------------------------------

    def names(self, kind: str) -> list[str]:
        """Names of all objects of a kind, in the model's order; those without one are left out."""
        every = (getattr(self.model, kind)(index).name for index in range(getattr(self.model, _COUNTS[kind])))
        return [name for name in every if name]

    def number(self, kind: str, name: str) -> int:
        """Number of an object.

        Raises:
            MetaMapError: there is none of that name; the closest one is named.
        """
        if name not in self.names(kind):
            raise unknown_name("keyframe" if kind == "key" else kind, name, self.names(kind))
        return int(getattr(self.model, kind)(name).id)

    def joints(self, names: Sequence[str] | None, leave_out: Iterable[str] = ()) -> list[int]:
        """Numbers of some joints; of all, in the model's order, without names.

        Raises:
            MetaMapError: there is no such joint, or none is left.
        """
        excluded = {self.number("joint", name) for name in leave_out}
        chosen = range(self.model.njnt) if names is None else [self.number("joint", name) for name in names]
        found = [joint for joint in chosen if joint not in excluded]
        if not found:
            raise MetaMapError("expected at least one joint, none is left")
        return found

    def positions(self, joints: Iterable[int]) -> list[int]:
        """Elements of qpos of joints."""
        return [
            self.model.jnt_qposadr[joint] + each
            for joint in joints
            for each in range(_POSITION_SIZES[self.model.jnt_type[joint]])
        ]

    def velocities(self, joints: Iterable[int]) -> list[int]:
        """Elements of qvel of joints."""
        return [
            self.model.jnt_dofadr[joint] + each
            for joint in joints
            for each in range(_VELOCITY_SIZES[self.model.jnt_type[joint]])
        ]

    def one_axis(self, joint: str) -> int:
        """Number of a hinge or slide.

        Raises:
            MetaMapError: there is no such joint, or it has more than one axis.
        """
        number = self.number("joint", joint)
        if self.model.jnt_type[number] < mujoco.mjtJoint.mjJNT_SLIDE.value:
            raise MetaMapError(f"joint {joint!r}: expected a hinge or a slide, it is a ball or free joint")
        return number

    # derived quantities -----------------------------------------------------------------------------------------------

    def read(self, readout: Readout) -> str:
        """Have a derived quantity read in each step; returns its key in `State.readouts`."""
        key = f"{readout.object_type} {readout.name}".strip() or readout.field
        if readout.object_type not in ("", "sensor") and readout.field != _PLACES[readout.object_type]:
            key = f"{key} {readout.field}"
        self.readouts[key] = readout
        return key

    def place(self, kind: str, name: str) -> str:
        """Key of the place of a body, geom or site in the world, m, [N, 3]."""
        self.number(kind, name)
        return self.read(Readout(_PLACES[kind], kind, name))

    def rotation(self, body: str) -> str:
        """Key of the rotation matrix of a body, row by row, [N, 9]."""
        self.number("body", body)
        return self.read(Readout("xmat", "body", body))

    def sensor(self, name: str) -> str:
        """Key of all numbers of a sensor, [N, size]."""
        self.number("sensor", name)
        return self.read(Readout("sensordata", "sensor", name, whole=True))

    def contact(self, kind: str, name: str) -> str:
        """Key of a sensor, added to the model, for the number of contacts of a geom or body, [N, 1]."""
        self.number(kind, name)
        sensor = f"contacts of {kind} {name}"
        if sensor not in [each.name for each in self.spec.sensors]:
            kinds = {"geom": mujoco.mjtObj.mjOBJ_GEOM, "body": mujoco.mjtObj.mjOBJ_BODY}
            found = 1 << mujoco.mjtConDataField.mjCONDATA_FOUND.value
            self.spec.add_sensor(
                name=sensor,
                type=mujoco.mjtSensor.mjSENS_CONTACT,
                objtype=kinds[kind],
                objname=name,
                intprm=[found, 0, 1],  # what is told, no reduction, one slot
            )
        return self.read(Readout("sensordata", "sensor", sensor, whole=True))

    # parameters -------------------------------------------------------------------------------------------------------

    def value(self, reference: Reference) -> Callable[[Array], Any]:
        """From parameters [N, P] to a number: a constant, or a parameter's values [N].

        Raises:
            MetaMapError: there is no such parameter.
        """
        if not isinstance(reference, str):
            return lambda values: reference
        if reference not in self.parameters:
            raise unknown_name("parameter", reference, self.parameters)
        self.used.add(reference)
        column = self.parameters.index(reference)
        return lambda values: values[:, column]

    def vector(self, references: Sequence[Reference]) -> Callable[[Array], Array]:
        """From parameters [N, P] to vectors [N, k] of numbers and parameters."""
        parts = [self.value(each) for each in references]

        def of(values: Array) -> Array:
            return np.stack([np.broadcast_to(part(values), len(values)) for part in parts], axis=1)

        return of
