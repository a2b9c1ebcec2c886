"""Columns of a recording by their role: observations, actions, rewards and the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Number, Settings, parse, read_document
from metamap_rl.data.readers.base import Recording

__all__ = ["ROLES", "UNITS", "ColumnMapping", "Taken", "read_mapping", "take"]

ROLES: dict[str, tuple[str, ...]] = {
    "observations": ("observations", "observation", "obs", "observation.state", "state", "states"),
    "actions": ("actions", "action", "act", "acts"),
    "rewards": ("rewards", "reward", "next.reward"),
    "next_observations": ("next_observations", "next_observation", "next_obs", "next.observation.state"),
    "terminated": ("terminated", "terminations", "terminals", "terminal", "next.terminated"),
    "truncated": ("truncated", "truncations", "timeouts", "timeout", "next.truncated"),
    "done": ("done", "dones", "next.done"),
    "episode": ("episode", "episode_index", "episode_id"),
    "time": ("time", "timestamp", "t"),
}
"""Roles of columns, each with the names that it is looked for by, in this order."""

UNITS = {"degrees": math.pi / 180.0, "millimetres": 1e-3, "milliseconds": 1e-3, "percent": 1e-2}
"""Units by name: the factor that makes them radians, metres, seconds or fractions."""

_MANY = ("observations", "actions", "next_observations")


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class ColumnMapping(Settings):
    """Which columns of a recording have which role.

    A name is that of a column; ``q*`` are all whose names match, in the order of the file; of a column of lists,
    ``state[3]`` is one number and ``state[0:5]`` several. Roles without names are looked for by the usual names, also
    numbered (``obs_0``, ``obs_1``, ...).
    """

    observations: Names = ()
    """Numbers of an observation, in the family's order."""
    actions: Names = ()
    """Numbers of an action, in the family's order."""
    rewards: Names = ()
    """Reward of the step."""
    next_observations: Names = ()
    """Numbers of the observation after the step; default: the observation of the next row of the episode."""
    terminated: Names = ()
    """Whether the task itself ended the episode with this step."""
    truncated: Names = ()
    """Whether the episode was cut after this step."""
    done: Names = ()
    """Whether the episode ended with this step, for either reason."""
    episode: Names = ()
    """Number or name of the episode."""
    time: Names = ()
    """Time of the row, in seconds."""
    units: dict[str, Number | str] = Field(default_factory=dict)
    """Factors by which columns are multiplied, or names of `UNITS`, by name of the column (``q*`` for several)."""

    def factor(self, label: str) -> float | None:
        """Factor of a column; None if no unit is given for it."""
        for pattern, unit in self.units.items():
            if _matches(label, pattern):
                return float(UNITS[unit]) if isinstance(unit, str) else float(unit)
        return None


class Taken(NamedTuple):
    """Numbers of one role."""

    labels: tuple[str, ...]
    """Names of the k columns."""
    values: NDArray[Any]
    """[n, k]."""


def read_mapping(
    path: str | Path | None = None, columns: Sequence[str] = (), units: Sequence[str] = ()
) -> ColumnMapping:
    """A mapping from a YAML file, overridden by words ``ROLE=NAME,NAME`` and ``NAME=FACTOR``.

    Raises:
        MetaMapError: an unknown role or unit, an invalid file, or another form of a word.
    """
    document = {} if path is None else dict(read_document(path))
    for word in columns:
        role, equals, names = word.partition("=")
        if not equals or not names:
            raise MetaMapError(f"--columns: expected ROLE=NAME,NAME,..., got {word!r}")
        document[role] = names.split(",")
    for word in units:
        name, equals, text = word.rpartition("=")
        if not equals or not name:
            raise MetaMapError(f"--units: expected NAME=FACTOR or NAME=UNIT, got {word!r}")
        given = document.get("units", {})
        document["units"] = {**given, name: _unit(text)} if isinstance(given, dict) else given
    what = "columns" if path is None else str(path)
    mapping = parse(ColumnMapping, document, what)
    for name, unit in mapping.units.items():
        if isinstance(unit, str) and unit not in UNITS:
            raise MetaMapError(f"{what}: units: {name}: expected a number or one of {', '.join(UNITS)}, got {unit!r}")
        if unit == 0:
            raise MetaMapError(f"{what}: units: {name}: expected a factor other than 0")
    return mapping


def _unit(text: str) -> float | str:
    """A number if the text is one."""
    try:
        return float(text)
    except ValueError:
        return text


def take(recording: Recording, mapping: ColumnMapping, role: str, like: tuple[str, ...] | None = None) -> Taken | None:
    """Columns of a role, in their units; None if the recording has none.

    ``like`` are columns of another role, in the same order, whose units are those of columns for which none is given.

    Raises:
        MetaMapError: a name that is not there, a column of text or with more than two axes, or several columns for a
            role that is one number.
    """
    names = getattr(mapping, role)
    parts = _named(recording, names, role) if names else _usual(recording, role)
    if not parts:
        return None
    if role not in _MANY and len(parts) > 1:
        raise MetaMapError(f"{recording.source}: {role}: expected one column, got {', '.join(parts)}")
    lengths = {len(values) for values in parts.values()}
    if len(lengths) > 1:
        raise MetaMapError(f"{recording.source}: {role}: expected columns of one length, got {sorted(lengths)}")
    values = np.stack(list(parts.values()), axis=1)
    others = parts if like is None or len(like) != len(parts) else like
    factors = np.array(
        [mapping.factor(label) or mapping.factor(other) or 1.0 for label, other in zip(parts, others, strict=True)]
    )
    return Taken(tuple(parts), values * factors if (factors != 1.0).any() else values)


def check_units(recording: Recording, mapping: ColumnMapping, labels: Iterable[str]) -> None:
    """Refuse units of columns that no role uses.

    Raises:
        MetaMapError: such a column.
    """
    used = list(labels)
    for pattern in mapping.units:
        if not any(_matches(label, pattern) for label in used):
            raise MetaMapError(f"{recording.source}: units: {_missing(pattern, used)}")


def _matches(label: str, pattern: str) -> bool:
    """Whether a label is meant, by its name, the column that it is in, or a pattern."""
    return label == pattern or label.startswith(f"{pattern}[") or fnmatchcase(label, re.sub(r"\[", "[[]", pattern))


def _named(recording: Recording, names: Sequence[str], role: str) -> dict[str, NDArray[Any]]:
    """Numbers of columns by label, as a mapping names them."""
    parts: dict[str, NDArray[Any]] = {}
    for name in names:
        found = _referred(recording, name.strip())
        if not found:
            raise MetaMapError(f"{recording.source}: {role}: {_missing(name, recording.columns)}")
        for label in found:
            if label in parts:
                raise MetaMapError(f"{recording.source}: {role}: the column {label!r} is named twice")
        parts |= found
    return parts


def _referred(recording: Recording, name: str) -> dict[str, NDArray[Any]]:
    """Numbers that a name refers to: a column, elements of one, or all that match."""
    columns = recording.columns
    if name in columns:
        return _elements(recording, name)
    if match := re.fullmatch(r"(.+)\[(\d+)(?::(\d+))?\]", name):
        column, start, stop = match[1], int(match[2]), match[3]
        if column in columns:
            elements = list(_elements(recording, column).items())
            chosen = elements[start : int(stop) if stop is not None else start + 1]
            if stop is not None and int(stop) > len(elements):
                return {}
            return dict(chosen)
    found: dict[str, NDArray[Any]] = {}
    for column in columns:
        if fnmatchcase(column, name):
            found |= _elements(recording, column)
    return found


def _usual(recording: Recording, role: str) -> dict[str, NDArray[Any]]:
    """Numbers of columns by label, by the usual names of a role."""
    for name in ROLES[role]:
        if name in recording.columns:
            return _elements(recording, name)
    for name in ROLES[role]:
        numbered = {}
        for column in recording.columns:
            if match := re.fullmatch(re.escape(name) + r"[_.\[ ]?(\d+)\]?", column):
                numbered[int(match[1])] = column
        if numbered and role in _MANY:
            first = min(numbered)
            expected = range(first, first + len(numbered))
            if first > 1 or sorted(numbered) != list(expected):
                gap = next(
                    (number for number in (0, 1, *expected) if number not in numbered and number >= min(first, 1)), 0
                )
                raise MetaMapError(f"{recording.source}: {role}: {numbered[first]!r} is there, number {gap} is not")
            return {numbered[index]: _elements(recording, numbered[index])[numbered[index]] for index in expected}
    return {}


def _elements(recording: Recording, name: str) -> dict[str, NDArray[Any]]:
    """Numbers [n] of a column by label: its name, with an index if it has lists."""
    values = recording.columns[name]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind in "US":
        text = next((str(one) for one in values if one), "")
        raise MetaMapError(f"{recording.source}: {name}: expected numbers, got {text}")
    if values.dtype.kind not in "fiub":
        raise MetaMapError(f"{recording.source}: {name}: expected numbers, got {values.dtype}")
    if values.ndim > 2:
        raise MetaMapError(
            f"{recording.source}: {name}: expected one row for each step, [n] or [n, k], got {values.shape}; "
            "of several environments or episodes take one: a[:, 0]"
        )
    if values.ndim == 1:
        return {name: values}
    return {f"{name}[{index}]": values[:, index] for index in range(values.shape[1])}


def _missing(name: str, columns: Mapping[str, Any] | Sequence[str]) -> str:
    """What to say of a name that is no column's."""
    close = get_close_matches(name, columns, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(list(columns)[:30]) + (", ..." if len(columns) > 30 else "")
    return f"there is no column {name!r}: {hint}there are {listed}"
