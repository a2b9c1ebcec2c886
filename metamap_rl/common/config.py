"""Base of the configs: frozen dataclasses, one declaration of each setting, its range in its annotation.

Documents (YAML, JSON) and the command line are read by these declarations. This module and the configs import neither
pydantic nor the simulator before a config is made: the command line prints its help from them.
"""

from __future__ import annotations

import functools
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self, TypeVar, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le

from metamap_agents.renamed import renamed_keywords

__all__ = ["Amount", "Config", "Count", "Positive", "PositiveNumber", "Share", "bare", "renamed"]

Made = TypeVar("Made")

Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0)]
PositiveNumber = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]

_LIMITS = (("ge", ">=", operator.ge), ("gt", ">", operator.gt), ("le", "<=", operator.le), ("lt", "<", operator.lt))
_KINDS = {int: "whole number", float: "number"}


@dataclass(frozen=True)
class Config:
    """Base of frozen dataclasses of settings, which may hold others.

    Names of settings are unique over a config and those inside it, so that a document may give them flat.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "frozen": True, "allow_inf_nan": False}
    called: ClassVar[str] = "config"
    """What errors call it."""
    old_names: ClassVar[Mapping[str, str]] = {}
    """Names of settings in earlier versions, see `renamed`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            hint, bounds = bare(_hints(type(self))[field.name])
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if get_origin(hint) is tuple:
                hint, bounds = bare(get_args(hint)[0])
                checked: Any = tuple(
                    self._checked(field.name, one, hint, bounds) for one in self._list(field.name, value)
                )
            else:
                checked = self._checked(field.name, value, hint, bounds)
            object.__setattr__(self, field.name, checked)

    def _list(self, name: str, value: Any) -> list[Any]:
        """A list, tuple or array as a list.

        Raises:
            MetaMapError: something else.
        """
        value = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(value, list | tuple):
            raise self.refusal(name, "a list", value)
        return list(value)

    def _checked(self, name: str, value: Any, kind: Any, bounds: tuple[Any, ...]) -> Any:
        """A number as Python's own.

        Raises:
            MetaMapError: another type, or out of range.
        """
        if kind is bool and not isinstance(value, bool):
            raise self.refusal(name, "true or false", value)
        if kind not in _KINDS:
            return value
        limits = [
            (sign, holds, getattr(one, key)) for one in bounds for key, sign, holds in _LIMITS if hasattr(one, key)
        ]
        try:
            number = operator.index(value) if kind is int else float(value)
            sound = "bool" not in type(value).__name__ and not isinstance(value, str) and math.isfinite(number)
        except (TypeError, ValueError, OverflowError):
            number, sound = 0, False
        if not sound or not all(holds(number, limit) for _, holds, limit in limits):
            text = " and ".join(f"{sign} {limit}" for sign, _, limit in limits)
            raise self.refusal(name, f"a {_KINDS[kind]} {text}".strip(), value)
        return number

    @classmethod
    def refusal(cls, name: str, expected: str, value: object) -> Exception:
        """The error of a bad value."""
        from metamap_envs.errors import MetaMapError

        return MetaMapError(f"{cls.called}: {name}: expected {expected}, got {value!r}")

    def flat(self) -> dict[str, Any]:
        """All settings by name, those of the configs inside included."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            found.update(value.flat() if isinstance(value, Config) else {field.name: value})
        return found

    def changed(self, **settings: Any) -> Self:
        """A copy with other values, by name, also of settings of the configs inside.

        Raises:
            MetaMapError: an unknown name, with the closest one, or a bad value.
        """
        from metamap_envs.settings import parse

        return parse(type(self), {**self.flat(), **self.flattened(settings)}, self.called)

    @classmethod
    def flattened(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document, flat or nested, as a flat one, with today's names."""
        found = dict(document)
        for name in _inner(cls):
            inner = found.pop(name, {})
            if not isinstance(inner, Mapping):
                raise cls.refusal(name, "a mapping of settings", inner)
            for twice in found.keys() & inner.keys():
                raise cls.refusal(twice, f"one value, not also one in {name}", found[twice])
            found |= inner
        return cls.with_new_names(found)

    @classmethod
    def with_new_names(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document in which settings have the names that they have now."""
        old: dict[str, str] = dict(cls.old_names)
        for inner in _inner(cls).values():
            old |= inner.old_names
        for before, now in old.items():
            if before in document and now in document:
                raise cls.refusal(now, f"one value, not also one of {before} (its earlier name)", document[now])
        return {old.get(name, name): value for name, value in document.items()}

    @classmethod
    def _read(cls, document: Any) -> Any:
        """A document as pydantic takes it: today's names, nested."""
        if not isinstance(document, Mapping):
            return document
        from metamap_envs.errors import unknown_name

        found, inner, hints = cls.flattened(document), _inner(cls), _hints(cls)
        for name, value in found.items():
            if inner and name not in cls.names():
                raise unknown_name("key", name, cls.names())
            if isinstance(value, bool) and bare(hints.get(name))[0] in _KINDS:  # pydantic would take True for 1
                raise cls.refusal(name, "a number", value)
        nested = {name: {key: found.pop(key) for key in kind.names() if key in found} for name, kind in inner.items()}
        return {**found, **nested}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all settings, those of the configs inside included."""
        inner = _inner(cls)
        return tuple(
            name
            for field in fields(cls)
            for name in (inner[field.name].names() if field.name in inner else (field.name,))
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(cls._read, handler(source))


def renamed(**names: str) -> Callable[[type[Made]], type[Made]]:
    """Decorate a config: documents and arguments may use a setting's earlier name, arguments with a warning.

    Args:
        names: the name that a setting has now, by its earlier one.
    """

    def decorate(cls: type[Made]) -> type[Made]:
        cls.old_names = {**getattr(cls, "old_names", {}), **names}  # type: ignore[attr-defined]
        cls.__init__ = renamed_keywords(**names)(cls.__init__)  # type: ignore[method-assign]
        return cls

    return decorate


def bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without None and annotations, and what it was annotated with."""
    extras: tuple[Any, ...] = ()
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            extras += tuple(more)
        else:
            (hint,) = (member for member in get_args(hint) if member is not types.NoneType)
    return hint, extras


def _hints(cls: type[Any]) -> Mapping[str, Any]:
    hints: Mapping[str, Any] = _evaluated(cast(Any, cls))  # for mypy a class of Any is not hashable
    return hints


@functools.cache
def _evaluated(cls: Any) -> Mapping[str, Any]:
    """Annotations of a class. Evaluating them takes a millisecond, and configs are made by the hundred."""
    return typing.get_type_hints(cls, include_extras=True)


def _inner(cls: type[Any]) -> dict[str, type[Config]]:
    """The configs inside a config, by the name of their field."""
    hints = {field.name: _hints(cls)[field.name] for field in fields(cls)}
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Config)}
