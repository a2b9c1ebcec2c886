"""What a declared parameter writes: a field of MuJoCo's model, a constructor's argument, or an attribute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.from_gymnasium.declaration import ParameterEntry
from metamap_envs.parameters import Parameter

__all__ = [
    "FIELDS",
    "Argument",
    "Attribute",
    "ModelField",
    "Target",
    "argument_names",
    "check_sign",
    "resolve",
    "with_attributes",
]

FIELDS = {
    "body": ("inertia", "mass"),
    "joint": ("armature", "damping", "frictionloss", "stiffness"),
    "geom": ("friction", "solimp", "solref"),
    "actuator": ("biasprm", "gainprm", "gear"),
    "option": ("density", "gravity", "impratio", "timestep", "viscosity", "wind"),
}
"""Fields that may be written into a compiled model so that it equals one compiled with the value.

Sizes, positions and ranges are left out: the compiler derives other fields from them, which would stay stale.
"""
POSITIVE = ("mass", "inertia", "timestep", "impratio")
"""Fields of which 0 makes no sense either."""
NOT_NEGATIVE = ("armature", "damping", "frictionloss", "stiffness", "friction", "density", "viscosity")
_ALL = "*"


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

    def write(self, model: Any, value: float) -> bool:
        """Write into a fresh model; returns whether derived constants have to be computed again."""
        if value == self.own:
            return False  # to the bit the environment's own model
        for owner in _owners(model, self.kind, self.name):
            array, where = _elements(owner, self.field, self.index)
            if self.kind == "body" and self.field == "mass":  # another density: the inertia goes with the mass
                owner.inertia[...] *= value if self.scale else value / float(array[0])
            if array is None:
                setattr(owner, self.field, getattr(owner, self.field) * value if self.scale else value)
            elif self.scale:
                array[where] *= value
            else:
                array[where] = value
        return self.kind != "option"


@dataclass(frozen=True)
class _Setting:
    """Something that is given to, or set by, the constructor; ``own`` is the environment's own value."""

    name: str
    scale: bool
    own: Any

    def result(self, value: float) -> Any:
        """What to pass or set for a parameter's value."""
        return _as_type(self.own * value if self.scale else value, self.own)


class Argument(_Setting):
    """An argument of the environment's constructor; ``own`` is its default, None where nobody knows it."""


class Attribute(_Setting):
    """An attribute that the environment's constructor sets; ``own`` is the value that it gives."""


Target = ModelField | Argument | Attribute


def resolve(
    name: str, entry: ParameterEntry, env: gym.Env[Any, Any], creator: Any, fixed: Mapping[str, Any]
) -> tuple[Target, float]:
    """Find what a parameter writes in an environment.

    Args:
        name: of the parameter, for messages.
        entry: its declaration.
        env: the environment with everything at its own values.
        creator: its class, or the function that makes it.
        fixed: constructor arguments that all tasks share.

    Returns:
        The target, and the parameter's default: the environment's own value, or 1 where values are factors.

    Raises:
        MetaMapError: there is no such object, field, argument or attribute, or it is not one number.
    """
    scale = entry.how == "scale"
    if entry.argument is not None:
        own: Any = _argument_default(entry.argument, creator, fixed)
        target: Target = Argument(entry.argument, scale, own)
    elif entry.attribute is not None:
        own = _attribute_value(entry.attribute, env, creator)
        target = Attribute(entry.attribute, scale, own)
    else:
        own = _field_value(name, entry, env)
        field = entry.option if entry.option is not None else entry.field
        assert field is not None, "the declaration was checked"
        object_name = "" if entry.kind == "option" else getattr(entry, entry.kind)
        target = ModelField(entry.kind, object_name, field, entry.index, scale, 1.0 if scale else own)
    if own is None:
        if scale or entry.default is None:
            raise MetaMapError(
                f"parameter {name!r}: the argument {entry.argument!r} has no default that is a number; "
                f"declare how: set and a default"
            )
        return target, entry.default
    if scale and own == 0:
        raise MetaMapError(f"parameter {name!r}: a factor on {target.name!r} changes nothing, as it is 0")
    return target, 1.0 if scale else float(own)


def check_sign(parameter: Parameter, target: Target) -> None:
    """Refuse values that no model can have; MuJoCo's compiler would, a compiled model takes anything.

    Raises:
        MetaMapError: some value of a parameter is negative, or 0 where it must not be.
    """
    if not isinstance(target, ModelField):
        return
    positive = target.field in POSITIVE
    if (positive and parameter.low <= 0) or (target.field in NOT_NEGATIVE and parameter.low < 0):
        what = f"a factor on {target.field!r}" if target.scale else repr(target.field)
        wanted = "above 0" if positive else "of 0 or more"
        raise MetaMapError(f"parameter {parameter.name!r}: {what} expects values {wanted}, got {parameter.low:g}")


def with_attributes(creator: Any, values: Mapping[str, Any]) -> Any:
    """A subclass of an environment whose constructor finds other values in some of the attributes that it sets.

    What the constructor itself derives from an attribute (CartPole's `polemass_length` from `length`) is derived from
    the new value, and so the environment is the one that its author would have written with that value.
    """

    class Changed(creator):  # type: ignore[misc]  # the class is known at run time only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.__dict__["_metamap_constructed"] = True
            for name, value in values.items():
                if getattr(self, name) != value:  # set by the class, not by its constructor
                    setattr(self, name, value)

        def __setattr__(self, name: str, value: Any) -> None:
            changed = name in values and "_metamap_constructed" not in self.__dict__
            super().__setattr__(name, values[name] if changed else value)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Changed, name, getattr(creator, name))
    return Changed


# MuJoCo -----------------------------------------------------------------------------------------------------------


def _field_value(name: str, entry: ParameterEntry, env: gym.Env[Any, Any]) -> float:
    """The environment's own value of a field, after checking that it can be written."""
    model, kind = getattr(env.unwrapped, "model", None), entry.kind
    if not hasattr(model, "opt"):
        raise MetaMapError(
            f"parameter {name!r}: the target {kind!r} needs a MuJoCo model, which this environment has not; "
            "use an argument or an attribute"
        )
    field = str(entry.option if kind == "option" else entry.field)
    if field not in FIELDS[kind]:
        raise MetaMapError(f"parameter {name!r}: {unknown_name(f'field of the target {kind!r}', field, FIELDS[kind])}")
    object_name = "" if kind == "option" else str(getattr(entry, kind))
    if object_name == _ALL and entry.how != "scale":
        raise MetaMapError(f"parameter {name!r}: all objects ({_ALL!r}) take a factor; declare how: scale")
    try:
        owners = _owners(model, kind, object_name)
    except KeyError:
        count = _count(model, kind)
        names = {getattr(model, kind)(index).name for index in range(count)}
        if kind == "actuator":
            names |= {_moved_joint(model, index) for index in range(count)}
        raise MetaMapError(f"parameter {name!r}: {unknown_name(kind, object_name, names - {''})}") from None
    first, where = _elements(owners[0], field, entry.index)
    if first is None:
        return float(getattr(owners[0], field))
    if entry.index is not None and entry.index >= first.size:
        raise MetaMapError(f"parameter {name!r}: index expects 0 to {first.size - 1} for {field!r}, got {entry.index}")
    if entry.how == "scale":
        arrays = [_elements(owner, field, entry.index) for owner in owners]
        if not any(np.any(array[place]) for array, place in arrays):
            raise MetaMapError(f"parameter {name!r}: a factor on {field!r} changes nothing, as it is 0")
        return 1.0
    own: NDArray[Any] = np.atleast_1d(first[where])
    if own.size != 1:
        raise MetaMapError(
            f"parameter {name!r}: {field!r} has {own.size} elements; declare which with index, or how: scale"
        )
    if (kind, field) == ("body", "mass") and own[0] == 0.0:
        raise MetaMapError(f"parameter {name!r}: body {object_name!r} has no mass, so no inertia to go with a new one")
    return float(own[0])


def _count(model: Any, kind: str) -> int:
    return int(getattr(model, {"joint": "njnt", "actuator": "nu"}.get(kind, f"n{kind}")))


def _owners(model: Any, kind: str, name: str) -> list[Any]:
    """Named-access views of the objects that a target means; the options themselves."""
    if kind == "option":
        return [model.opt]
    if name == _ALL:
        return [getattr(model, kind)(index) for index in range(_count(model, kind))]
    if kind == "actuator":
        return [_actuator(model, name)]
    return [getattr(model, kind)(name)]


def _actuator(model: Any, name: str) -> Any:
    """An actuator by its name, or, as many have none, by that of the joint that it moves.

    Raises:
        KeyError: there is no such actuator.
    """
    for index in range(model.nu):
        if name and name in (model.actuator(index).name, _moved_joint(model, index)):
            return model.actuator(index)
    raise KeyError(name)


def _moved_joint(model: Any, index: int) -> str:
    """Name of the joint that an actuator without a name moves; empty if there is none."""
    import mujoco

    moves_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT.value
    unnamed = moves_joint and not model.actuator(index).name
    return str(model.joint(model.actuator_trnid[index, 0]).name) if unnamed else ""


def _elements(owner: Any, field: str, index: int | None) -> tuple[Any, Any]:
    """(live array, which elements) of a field; (None, None) for a plain number, as options have."""
    array = getattr(owner, field)
    if not isinstance(array, np.ndarray):
        return None, None
    return array, slice(None) if index is None else index


# arguments and attributes -------------------------------------------------------------------------------------------


def argument_names(creator: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Named arguments of an environment's constructor with their defaults, and whether it takes any other.

    ``**kwargs`` are followed to the base classes, as in Gymnasium's MuJoCo environments.
    """
    functions: list[Any] = [creator]
    if inspect.isclass(creator):
        functions = [vars(cls)["__init__"] for cls in creator.__mro__ if "__init__" in vars(cls)]
    names: dict[str, Any] = {}
    for function in functions:
        if function is object.__init__:
            return names, False
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and parameter.name != "self":
                names.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return names, False
    return names, True


def _argument_default(name: str, creator: Any, fixed: Mapping[str, Any]) -> Any:
    known, others = argument_names(creator)
    if name not in known and not others:
        raise unknown_name("argument of the environment's constructor", name, known)
    own = fixed.get(name, known.get(name))
    return own if isinstance(own, bool | int | float) else None


def _attribute_value(name: str, env: gym.Env[Any, Any], creator: Any) -> Any:
    if not inspect.isclass(creator):
        raise MetaMapError(
            f"attribute {name!r}: this environment is made by a function, not by a class, so its attributes cannot be "
            "set while it is made; use an argument"
        )
    base = env.unwrapped
    numbers = [key for key in vars(base) | vars(type(base)) if _is_number(getattr(base, key, None)) and key[:2] != "__"]
    if name not in numbers:
        raise unknown_name("attribute of the environment that is a number", name, numbers)
    return getattr(base, name)


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float | np.number)


def _as_type(value: float, own: Any) -> Any:
    """``value`` as a bool or an integer where the environment's own value is one."""
    if isinstance(own, bool):
        return bool(value)
    if isinstance(own, int | np.integer) and float(value).is_integer():
        return int(value)
    return float(value)
