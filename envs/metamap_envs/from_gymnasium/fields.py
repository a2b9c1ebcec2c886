"""Fields of MuJoCo's model as targets: what may be written, and models with the values compiled in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metamap_envs.errors import MetaMapError, one_line, unknown_name
from metamap_envs.from_gymnasium.live import check_live
from metamap_envs.from_gymnasium.servos import SERVO_FIELDS, check_actuator, servo_places

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.declaration import ParameterEntry

__all__ = ["FIELDS", "ModelField", "changed_model", "check_written", "object_names", "own_value"]

FIELDS = {
    "body": ("inertia", "mass"),
    "joint": ("armature", "damping", "frictionloss", "stiffness"),
    "geom": ("friction", "solimp", "solref"),
    "actuator": ("biasprm", "gainprm", "gear", "kp", "kv"),
    "option": ("density", "gravity", "impratio", "timestep", "viscosity", "wind"),
}
"""Fields whose new value gives the model that would be compiled with it.

Sizes, positions and ranges are left out: they are not one number of the compiled model.
"""
POSITIVE = ("mass", "inertia", "timestep", "impratio")
"""Fields that must be above 0."""
NOT_NEGATIVE = (
    "armature", "damping", "frictionloss", "stiffness", "friction", "density", "viscosity", "kp", "kv"
)  # fmt: skip
SOLIMP = {0: (1e-4, 0.9999), 1: (1e-4, 0.9999), 2: (0.0, np.inf), 3: (1e-4, 0.9999), 4: (1.0, np.inf)}
"""Range of each element of solimp, to which MuJoCo clips it while it runs."""
ALL = "*"
_ONE_NUMBER = ("armature", "damping", "frictionloss", "stiffness")
"""Fields that the specification has once for all axes of a joint."""

Place = tuple[str, int, str, int]
"""(kind, object, field of the compiled model, element): one number of a model."""


@dataclass(frozen=True)
class ModelField:
    """Elements of one field of one named object of the model, or of all objects of its kind.

    Attributes:
        kind: "body", "joint", "geom", "actuator" or "option".
        name: the object; "*" for all; empty for options.
        field: one of `FIELDS`.
        index: which element; None for all.
        scale: whether values are factors.
        own: the environment's own value; 1 where values are factors.
    """

    kind: str
    name: str
    field: str
    index: int | None
    scale: bool
    own: float

    @property
    def label(self) -> str:
        """Its name in messages."""
        of = "" if self.kind == "option" else f" of {self.kind} {self.name!r}"
        return f"{self.field!r}{'' if self.index is None else f'[{self.index}]'}{of}"

    def objects(self, model: Any) -> list[int]:
        """Numbers of the objects that it means in a model; 0 for the options."""
        return [getattr(owner, "id", 0) for owner in owners(model, self.kind, self.name)]

    def places(self, model: Any) -> Iterator[tuple[Place, float]]:
        """The numbers that it writes, each with a sign: -1 where a servo has the negative of its gain."""
        for owner in owners(model, self.kind, self.name):
            number = getattr(owner, "id", 0)
            if self.field in SERVO_FIELDS:
                yield from (
                    (("actuator", number, field, index), sign) for field, index, sign in servo_places(owner, self.field)
                )
                continue
            size = np.size(getattr(owner, self.field))
            for index in range(size) if self.index is None else (self.index,):
                yield (self.kind, number, self.field, index), 1.0
            if self.kind == "body" and self.field == "mass":  # another density: the inertia goes with the mass
                yield from ((("body", number, "inertia", index), 0.0) for index in range(3))

    def written(self, model: Any, value: float) -> dict[Place, float]:
        """The numbers that a model with the value has, from those of one without it."""
        found = {}
        for place, sign in self.places(model):
            own = read(model, place)
            if sign == 0.0:
                mass = read(model, ("body", place[1], "mass", 0))
                found[place] = own * (value if self.scale else value / mass)
            else:
                found[place] = own * value if self.scale else sign * value
        return found


# models --------------------------------------------------------------------------------------------------------------


def changed_model(spec: Any, own: Any, fields: Sequence[tuple[ModelField, float]]) -> Any:
    """Compile a model anew with other values.

    Args:
        spec: the model's specification; it is changed.
        own: the model compiled from it.
        fields: what to write.

    Raises:
        MetaMapError: MuJoCo's compiler refuses a value, or makes another number of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler gave them when it compiled the environment's own model
        spec.compile()  # numbers its elements
        numbers = _write(spec, own, fields)
        try:
            model = spec.compile()
        except ValueError as error:
            what = ", ".join(f"{target.label} {'times' if target.scale else '='} {value:g}" for target, value in fields)
            raise MetaMapError(f"MuJoCo's compiler refuses {what}: {one_line(error)}") from None
    check_written(model, numbers, fields, own)
    return model


def _write(spec: Any, own: Any, fields: Sequence[tuple[ModelField, float]]) -> dict[Place, float]:
    """Write values into a specification; returns the numbers that the compiled model is to have."""
    numbers: dict[Place, float] = {}
    for target, value in fields:
        numbers |= target.written(own, value)
    if any(kind == "body" for kind, *_ in numbers):
        _make_bodies_explicit(spec, own)
    elements = {kind: {each.id: each for each in getattr(spec, _PLURAL[kind])} for kind in _PLURAL}
    for (kind, number, field, index), value in numbers.items():
        owner = spec.option if kind == "option" else elements[kind][number]
        held = getattr(owner, field)
        if not isinstance(held, np.ndarray):
            setattr(owner, field, value)
        else:  # of a joint the specification has one number for all axes
            held[0 if field in _ONE_NUMBER else index] = value
    return numbers


_PLURAL = {"body": "bodies", "joint": "joints", "geom": "geoms", "actuator": "actuators"}


def _make_bodies_explicit(spec: Any, own: Any) -> None:
    """Write the compiled bodies into the specification, to the bit, so that single numbers of them can be changed."""
    import mujoco

    compiler = spec.compiler
    compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
    compiler.settotalmass, compiler.boundmass, compiler.boundinertia, compiler.balanceinertia = -1.0, 0.0, 0.0, False
    for body in list(spec.bodies)[1:]:
        body.explicitinertial = True
        body.fullinertia = [np.nan, 0.0, 0.0, 0.0, 0.0, 0.0]
        body.mass, body.inertia = own.body_mass[body.id], own.body_inertia[body.id]
        body.ipos, body.iquat = own.body_ipos[body.id], own.body_iquat[body.id]


def check_written(
    model: Any, numbers: Mapping[Place, float], fields: Sequence[tuple[ModelField, float]], own: Any
) -> None:
    """Check that a model has the numbers that were written.

    Raises:
        MetaMapError: something else made another number of one.
    """
    for place, expected in numbers.items():
        found = read(model, place)
        if not np.isclose(found, expected, rtol=1e-9, atol=0.0):
            target = next(target for target, value in fields if place in target.written(own, value))
            raise MetaMapError(
                f"{target.label}: {expected:g} was written and {found:g} is what the model has, since something else "
                f"in the model or in the environment's code sets it"
            )


def write_live(model: Any, fields: Sequence[tuple[ModelField, float]]) -> dict[Place, float]:
    """Write values into a compiled model without a specification; returns the numbers."""
    import mujoco

    numbers: dict[Place, float] = {}
    for target, value in fields:
        numbers |= target.written(model, value)
    for (kind, number, field, index), value in numbers.items():
        owner = model.opt if kind == "option" else getattr(model, kind)(number)
        if isinstance(held := getattr(owner, field), np.ndarray):
            held[index] = value
        else:
            setattr(owner, field, value)
    if any(kind != "option" for kind, *_ in numbers):
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return numbers


def read(model: Any, place: Place) -> float:
    """One number of a model."""
    kind, number, field, index = place
    found = getattr(model.opt if kind == "option" else getattr(model, kind)(number), field)
    return float(found[index]) if isinstance(found, np.ndarray) else float(found)


# objects -------------------------------------------------------------------------------------------------------------


def owners(model: Any, kind: str, name: str) -> list[Any]:
    """Named-access views of the objects that a target means; the options themselves.

    Raises:
        KeyError: there is no such object.
        MetaMapError: the name means several actuators.
    """
    if kind == "option":
        return [model.opt]
    if name == ALL:
        return [getattr(model, kind)(index) for index in range(_count(model, kind))]
    if kind == "actuator":
        return [_actuator(model, name)]
    return [getattr(model, kind)(name)]


def object_names(model: Any, kind: str) -> list[str]:
    """Names by which a declaration can mean the objects of a kind; an actuator also goes by the joint that it moves."""
    names = [getattr(model, kind)(index).name for index in range(_count(model, kind))]
    if kind == "actuator":
        names += [_moved_joint(model, index) for index in range(model.nu)]
    return [name for name in dict.fromkeys(names) if name]


def _count(model: Any, kind: str) -> int:
    return int(getattr(model, {"joint": "njnt", "actuator": "nu"}.get(kind, f"n{kind}")))


def _actuator(model: Any, name: str) -> Any:
    """An actuator by its name, or, as many have none, by that of the joint that it moves."""
    every = [model.actuator(index) for index in range(model.nu)]
    found = [each for each in every if name and name == each.name] or [
        each for each in every if name and name == _moved_joint(model, each.id)
    ]
    if not found:
        raise KeyError(name)
    if len(found) > 1:
        raise MetaMapError(f"{len(found)} actuators without a name move the joint {name!r}; give them names")
    return found[0]


def _moved_joint(model: Any, index: int) -> str:
    """Name of the joint that an actuator without a name moves; empty if there is none."""
    import mujoco

    moves_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT.value
    unnamed = moves_joint and not model.actuator(index).name
    return str(model.joint(model.actuator_trnid[index, 0]).name) if unnamed else ""


# a declared field ----------------------------------------------------------------------------------------------------


def own_value(entry: ParameterEntry, model: Any, spec: Any | None) -> float:
    """The environment's own value of a field, 1 for a factor, after checking that it can be given another.

    Args:
        entry: the parameter's declaration.
        model: the environment's.
        spec: its specification, freshly read; None if unavailable.

    Raises:
        MetaMapError: there is no such object or field, it is not one number, or writing it would not do what it says.
    """
    kind = entry.kind
    field = str(entry.option if kind == "option" else entry.field)
    if field not in FIELDS[kind]:
        raise unknown_name("field", field, FIELDS[kind], of=f"the target {kind!r}")
    name = "" if kind == "option" else str(getattr(entry, kind))
    if name == ALL and entry.how != "scale":
        raise MetaMapError(f"all objects ({ALL!r}) take a factor; declare how: scale")
    try:
        found = owners(model, kind, name)
    except KeyError:
        raise unknown_name(kind, name, object_names(model, kind)) from None
    if kind == "joint" and spec is not None and field in ("damping", "stiffness"):
        sprung = [each.name for each in spec.joints if (each.springdamper > 0).all()]
        if any(owner.name in sprung for owner in found):
            raise MetaMapError(f"{field!r}: the compiler computes it from springdamper of joint {min(sprung)!r}")
    if kind == "actuator":
        raw = {each.id: each for each in spec.actuators} if spec is not None else {}
        for owner in found:
            check_actuator(owner, field, entry.index, raw.get(owner.id))
    target = ModelField(kind, name, field, entry.index, entry.how == "scale", 1.0)
    if field in SERVO_FIELDS:
        if entry.index is not None:
            raise MetaMapError(f"index: {field!r} is one number, got {entry.index}")
    else:
        _check_index(field, entry.index, found[0])
    values = [read(model, place) for place, sign in target.places(model) if sign == 1.0]
    if entry.how == "scale":
        if not any(values):
            raise MetaMapError(f"a factor on {field!r} changes nothing, as it is 0")
    elif len(set(values)) != 1 or (len(values) > 1 and field not in _ONE_NUMBER):
        raise MetaMapError(f"{field!r} has {len(values)} elements; declare which with index, or how: scale")
    _check_mass(kind, field, name, found, values)
    if spec is None:
        check_live(model, field)
    return 1.0 if entry.how == "scale" else values[0]


def _check_index(field: str, index: int | None, owner: Any) -> None:
    size = np.size(getattr(owner, field))
    if index is None:
        return
    if index >= size:
        raise MetaMapError(f"index: expected 0 to {size - 1} for {field!r}, got {index}")
    if field in _ONE_NUMBER and size > 1:
        raise MetaMapError(f"{field!r} is one number for all axes of the joint; leave index out")


def _check_mass(kind: str, field: str, name: str, found: Sequence[Any], values: Sequence[float]) -> None:
    if kind == "body" and name != ALL and not any(values):
        raise MetaMapError(f"body {name!r} has no mass, so no inertia to go with a new one")
