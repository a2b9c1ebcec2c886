"""Schema of a family's YAML file, validated before anything is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator, model_validator

from metamap_envs.parameters import Scale
from metamap_envs.settings import STRICT, Number, Whole

__all__ = ["TARGETS", "Declaration", "FamilyDeclaration", "ParameterEntry", "canonical_value"]

TARGETS = ("body", "joint", "geom", "actuator", "option", "argument", "attribute")
_NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_Interval = tuple[Number, Number]


class ParameterEntry(BaseModel):
    """One parameter: what it writes, and which values it takes. Exactly one of `TARGETS` says what it writes."""

    model_config = STRICT

    body: str | None = None
    joint: str | None = None
    geom: str | None = None
    actuator: str | None = None
    option: str | None = None
    argument: str | None = None
    attribute: str | None = None
    field: str | None = None
    index: Whole | None = Field(default=None, ge=0)
    how: Literal["set", "scale"] = "set"
    unit: str = "1"
    default: Number | None = None
    train: tuple[_Interval, ...] = ()
    out: tuple[_Interval, ...] = ()
    choices: tuple[Number, ...] = ()
    low: Number | None = None
    high: Number | None = None
    description: str = ""
    periodic: bool = False
    categorical: bool = False
    scale: Scale = "linear"

    @field_validator("train", "out", mode="before")
    @classmethod
    def _one_interval_or_many(cls, value: object) -> object:
        single = isinstance(value, list | tuple) and value and not isinstance(value[0], list | tuple)
        return [value] if single else value

    @model_validator(mode="after")
    def _check_target(self) -> ParameterEntry:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise ValueError(f"needs one of {', '.join(TARGETS)} to say what it writes; got {got}")
        of_object = given[0] in TARGETS[:4]
        if of_object != (self.field is not None):
            problem = "needs a field" if of_object else "has no field of its own"
            raise ValueError(f"the target {given[0]!r} {problem}; field belongs to {', '.join(TARGETS[:4])}")
        if self.index is not None and given[0] in TARGETS[5:]:
            raise ValueError(f"index belongs to MuJoCo's fields, not to the target {given[0]!r}")
        return self

    def canonical(self) -> dict[str, Any]:
        """The fields that affect environments, without defaults, description and unit."""
        return self.model_dump(exclude_defaults=True, exclude={"description", "unit"})

    @property
    def kind(self) -> str:
        """Which of `TARGETS` it has."""
        return next(name for name in TARGETS if getattr(self, name) is not None)


Entry = TypeVar("Entry", bound=ParameterEntry)


class FamilyDeclaration(BaseModel, Generic[Entry]):
    """What the declarations of all kinds of families have.

    Attributes:
        name: the family's name, lower case with hyphens.
        parameters: what varies, by name.
        description: one human-readable sentence.
        version: goes up when the file changes what an environment does.
        embodiment: the robot; families of one embodiment share sizes.
    """

    model_config = STRICT

    name: str = Field(pattern=_NAME)
    parameters: dict[str, Entry] = Field(min_length=1)
    description: str = ""
    version: Whole = Field(default=0, ge=0)
    embodiment: str | None = Field(default=None, pattern=_NAME)

    @field_validator("parameters")
    @classmethod
    def _check_names(cls, entries: dict[str, Entry]) -> dict[str, Entry]:
        for name in entries:
            if not name or not name.isprintable() or any(sign == "=" or sign.isspace() for sign in name):
                raise ValueError(f"expected names without spaces and '=', as NAME=VALUE is written, got {name!r}")
        return entries


class Declaration(FamilyDeclaration[ParameterEntry]):
    """A family: a Gymnasium environment and a table of parameters.

    Attributes:
        environment: Gymnasium id, or "module:id" to import the module that registers it.
        embodiment: default: the id in lower case.
        horizon: steps after which an episode is truncated. Default: the environment's own.
        arguments: of the environment's constructor, the same for all tasks.
    """

    environment: str
    horizon: Whole | None = Field(default=None, ge=1)
    arguments: dict[str, Any] = {}

    def canonical(self, horizon: int) -> dict[str, Any]:
        """What it says of the environments, as plain JSON values of one form; ``horizon`` is the one in effect."""
        return {
            "environment": self.environment,
            "horizon": horizon,
            "arguments": canonical_value(self.arguments),
            "parameters": {name: canonical_value(entry.canonical()) for name, entry in self.parameters.items()},
            "order": list(self.parameters),  # tasks are drawn in it
        }


def canonical_value(value: object) -> Any:
    """Values as JSON holds them, equal where they mean the same: 1.0 is 1, a tuple a list, infinity text."""
    if isinstance(value, Mapping):
        return {str(key): canonical_value(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [canonical_value(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
