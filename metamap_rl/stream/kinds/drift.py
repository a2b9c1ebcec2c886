"""Streams in which task parameters change gradually."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family
from metamap_envs.settings import Number, Settings, parse
from metamap_envs.task import Task
from metamap_rl.stream.kinds.base import STREAMS, Count, FamilyName, StreamKind, Table

__all__ = ["Drift", "Line", "Path", "RandomWalk", "Sinusoid"]

Values = NDArray[np.float64]
Positive = Annotated[Number, Field(gt=0)]

_DECIMALS = 6  # like sampled values, for short JSON and display


class Path(Settings, ABC):
    """Trajectory of one parameter."""

    @abstractmethod
    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Values [count] of the parameter, in its unit; those of a periodic parameter may leave [-pi, pi]."""


class Line(Path):
    """Linear interpolation between two values."""

    start: Number = Field(alias="from")
    """First value."""
    stop: Number = Field(alias="to")
    """Last value. For angles, 0 to 6.2 is a full turn."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Includes both ends; a single arrival is at the start."""
        return np.linspace(self.start, self.stop, count)


class RandomWalk(Path):
    """Gaussian random walk, reflected at the ends of the training range (angles wrap around)."""

    start: Number | None = None
    """First value, in the training range; by default the middle of it."""
    step: Positive
    """Standard deviation of a step, in the parameter's unit, greater than 0."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Raises MetaMapError if the start is outside the training range."""
        low, high = _training_range(parameter)
        start = (low + high) / 2 if self.start is None else self.start
        if not low <= start <= high:
            raise MetaMapError(
                f"start: expected a value in the training range {parameter.interval(low, high)}, got {start:g}"
            )
        walk = start + self.step * np.concatenate([[0.0], np.cumsum(generator.standard_normal(count - 1))])
        return walk if parameter.periodic else reflect(walk, low, high)


class Sinusoid(Path):
    """``centre + amplitude sin(2 pi i / period)`` at arrival i = 0, 1, ..."""

    centre: Number
    """Centre, the first value."""
    amplitude: Positive
    """Amplitude, greater than 0."""
    period: Positive
    """Period in arrivals."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Values repeat exactly if the period is an integer."""
        values: Values = self.centre + self.amplitude * np.sin(2.0 * math.pi * np.arange(count) / self.period)
        return values


PATHS: dict[str, type[Path]] = {"line": Line, "random-walk": RandomWalk, "sinusoid": Sinusoid}


@STREAMS.register("drift")
class Drift(StreamKind):
    """Gradual drift: every arrival is a new task close to the previous one."""

    kind: Literal["drift"] = "drift"
    family: FamilyName
    count: Count = Field(alias="tasks")
    """Number of arrivals, at least 1."""
    path: Literal["line", "random-walk", "sinusoid"]
    """Trajectory of the parameters."""
    parameters: dict[str, SerializeAsAny[Path]]
    """Settings of the path by parameter: ``from`` and ``to`` | ``start`` and ``step`` | ``centre``, ``amplitude`` and
    ``period``."""
    fixed: Table = Field(default_factory=dict)
    """Values of constant parameters; those in neither table have their default values."""

    @field_validator("parameters", mode="before")
    @classmethod
    def _choose_path(cls, given: object, info: Any) -> object:
        if not isinstance(given, Mapping) or "path" not in info.data:  # an error about the latter was reported already
            return given
        path = PATHS[info.data["path"]]
        return {
            name: entry if isinstance(entry, path) else parse(path, entry, str(name)) for name, entry in given.items()
        }

    @model_validator(mode="after")
    def _check_values(self) -> Drift:
        if not self.parameters:
            raise MetaMapError("parameters: expected at least one parameter to change, got none")
        twice = min(self.parameters.keys() & self.fixed.keys(), default=None)
        if twice is not None:
            raise MetaMapError(f"{twice!r} is in both parameters and fixed, expected one of them")
        self.tasks(np.random.default_rng(0))  # random walks are always within the family's bounds
        return self

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """One task per point of the trajectory."""
        family = get_family(self.family)
        columns = {
            name: self._column(path, name, child)
            for (name, path), child in zip(self.parameters.items(), generator.spawn(len(self.parameters)), strict=True)
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [family.task({**self.fixed, **dict(zip(columns, row, strict=True))}) for row in rows]

    def _column(self, path: Path, name: str, generator: np.random.Generator) -> Values:
        """Values [T] of one parameter, rounded and wrapped."""
        parameter = _parameter(self.family, name)
        try:
            values = path.values(parameter, self.count, generator)
        except MetaMapError as error:
            raise MetaMapError(f"parameters.{name}: {error}") from None
        if not parameter.periodic:
            return parameter.rounded(values)
        values = np.round((values + math.pi) % (2.0 * math.pi) - math.pi, _DECIMALS)
        return np.clip(values, parameter.low, parameter.high)  # pi is rounded up, beyond the valid range

    @property
    def family_names(self) -> tuple[str, ...]:
        """The one family."""
        return (self.family,)


def _parameter(family: str, name: str) -> Parameter:
    """Return a continuous parameter by name.

    Raises:
        MetaMapError: unknown name, or a discrete parameter.
    """
    known = {parameter.name: parameter for parameter in get_family(family).space.parameters}
    if name not in known:
        raise unknown_name("parameter", name, known, of=f"family {family!r}")
    if known[name].choices:
        raise MetaMapError(f"parameter {name!r} has the values {known[name].choices} only: it cannot drift")
    return known[name]


def _training_range(parameter: Parameter) -> tuple[float, float]:
    """Lowest and highest value of training tasks."""
    return min(low for low, _ in parameter.train), max(high for _, high in parameter.train)


def reflect(values: Values, low: float, high: float) -> Values:
    """Reflect values at both ends of a range."""
    width = high - low
    folded: Values = np.abs((values - low + width) % (2.0 * width) - width)
    return high - (width - folded) if width else np.full_like(values, low)
