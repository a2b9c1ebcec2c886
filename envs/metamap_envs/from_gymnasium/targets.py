"""What a declared parameter writes: a field of MuJoCo's model, a constructor's argument, or an attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.constructor import argument_default, attribute_value
from metamap_envs.from_gymnasium.declaration import ParameterEntry
from metamap_envs.from_gymnasium.fields import NOT_NEGATIVE, POSITIVE, SOLIMP, ModelField, own_value
from metamap_envs.from_gymnasium.models import Load
from metamap_envs.from_gymnasium.snapshot import Make, own_argument
from metamap_envs.parameters import Parameter

__all__ = ["Argument", "Attribute", "ModelField", "Target", "check_values", "resolve"]


@dataclass(frozen=True)
class _Setting:
    """Something that is given to, or set by, the constructor; ``own`` is the environment's own value."""

    name: str
    scale: bool
    own: Any

    def result(self, value: float) -> Any:
        """What to pass or set for a parameter's value, of the type that the environment's own value has."""
        if isinstance(self.own, bool):
            return bool(value)
        result = float(self.own) * value if self.scale else float(value)
        return int(result) if isinstance(self.own, int) and result.is_integer() else result

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{type(self).__name__.lower()} {self.name!r}"


class Argument(_Setting):
    """An argument of the environment's constructor; ``own`` is its default, None if unknown."""


class Attribute(_Setting):
    """An attribute that the environment's constructor sets; ``own`` is the value that it gives."""


Target = ModelField | Argument | Attribute


def resolve(
    name: str,
    entry: ParameterEntry,
    env: gym.Env[Any, Any],
    creator: Any,
    fixed: Mapping[str, Any],
    load: Load | None,
    make: Make,
) -> tuple[Target, float]:
    """Find what a parameter writes in an environment.

    Args:
        name: of the parameter, for messages.
        entry: its declaration.
        env: the environment with everything at its own values.
        creator: its class, or the function that makes it.
        fixed: constructor arguments that all tasks share.
        load: how the environment's model was compiled, if that is known.
        make: makes the environment with more arguments.

    Returns:
        The target, and the parameter's default: the environment's own value, or 1 where values are factors.

    Raises:
        MetaMapError: there is no such object, field, argument or attribute, or it is not one number.
    """
    scale = entry.how == "scale"
    if entry.argument is not None:
        default = argument_default(entry.argument, creator, fixed)
        own: Any = own_argument(entry.argument, default, make)
        target: Target = Argument(entry.argument, scale, own)
    elif entry.attribute is not None:
        own = attribute_value(entry.attribute, env, creator)
        target = Attribute(entry.attribute, scale, own)
    else:
        own = _field_value(name, entry, env, load)
        field = entry.option if entry.option is not None else entry.field
        assert field is not None, "the declaration was checked"
        object_name = "" if entry.kind == "option" else getattr(entry, entry.kind)
        target = ModelField(entry.kind, object_name, field, entry.index, scale, own)
    if own is None:
        if scale or entry.default is None:
            why = "has no default that is a number"
            if default is not None:
                why = f"has the default {default}, but passing that makes another environment than passing nothing"
            raise MetaMapError(
                f"parameter {name!r}: the argument {entry.argument!r} {why}; declare how: set and a default"
            )
        return target, entry.default
    if scale and (own == 0 or isinstance(own, bool)):
        why = "it is 0" if own == 0 else "it is true or false"
        raise MetaMapError(f"parameter {name!r}: a factor on {target.name!r} changes nothing, as {why}")
    return target, 1.0 if scale else float(own)


def _field_value(name: str, entry: ParameterEntry, env: gym.Env[Any, Any], load: Load | None) -> float:
    model = getattr(env.unwrapped, "model", None)
    if not hasattr(model, "opt"):
        raise MetaMapError(
            f"parameter {name!r}: the target {entry.kind!r} needs a MuJoCo model, which this environment has not; "
            "use an argument or an attribute"
        )
    try:
        return own_value(entry, model, load.spec() if load is not None else None)
    except MetaMapError as error:
        raise MetaMapError(f"parameter {name!r}: {error}") from None


def check_values(parameter: Parameter, target: Target) -> None:
    """Refuse values that no environment or model can have.

    Raises:
        MetaMapError: some value of a parameter is negative, or 0 where it must not be, or neither true nor false.
    """
    if isinstance(target, ModelField):
        positive = target.field in POSITIVE
        if (positive and parameter.low <= 0) or (target.field in NOT_NEGATIVE and parameter.low < 0):
            what = f"a factor on {target.field!r}" if target.scale else repr(target.field)
            wanted = "above 0" if positive else "of 0 or more"
            raise MetaMapError(f"parameter {parameter.name!r}: {what}: expected values {wanted}, got {parameter.low:g}")
        low, high = SOLIMP.get(target.index or 0, (0.0, 1.0)) if target.field == "solimp" else (-math.inf, math.inf)
        if not target.scale and not low <= parameter.low <= parameter.high <= high:
            raise MetaMapError(
                f"parameter {parameter.name!r}: MuJoCo clips {target.label} to [{low:g}, {high:g}], "
                f"got [{parameter.low:g}, {parameter.high:g}]"
            )
    elif isinstance(target.own, bool) and not set(parameter.choices or (0.5,)) <= {0.0, 1.0}:
        raise MetaMapError(f"parameter {parameter.name!r}: {target.label} is true or false; declare choices: [0, 1]")
