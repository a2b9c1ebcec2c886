"""Streams in which parameters of a task change a little from arrival to arrival."""

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

_DECIMALS = 6  # as sampled values have, so that they survive JSON and the screen unchanged


class Path(Settings, ABC):
    """How one parameter changes."""

    @abstractmethod
    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Values [count] of the parameter, in its unit; those of a periodic one may leave [-pi, pi]."""


class Line(Path):
    """From one value to another in equal steps."""

    start: Number = Field(alias="from")
    """First value."""
    stop: Number = Field(alias="to")
    """Last value. Of an angle: from 0 to 6.2 goes once around."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Both ends are reached; one arrival is at the start."""
        return np.linspace(self.start, self.stop, count)


class RandomWalk(Path):
    """Gaussian steps, reflected at the ends of the training range (an angle goes around instead)."""

    start: Number | None = None
    """First value, in the training range; by default the middle of it."""
    step: Positive
    """Standard deviation of a step, in the parameter's unit, greater than 0."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """Raises MetaMapError if the start is outside."""
        low, high = _training_range(parameter)
        start = (low + high) / 2 if self.start is None else self.start
        if not low <= start <= high:
            raise MetaMapError(
                f"start: expected a value in the training range [{low:g}, {high:g}] {parameter.unit}, got {start:g}"
            )
        walk = start + self.step * np.concatenate([[0.0], np.cumsum(generator.standard_normal(count - 1))])
        return walk if parameter.periodic else reflect(walk, low, high)


class Sinusoid(Path):
    """``centre + amplitude sin(2 pi i / period)`` at arrival i = 0, 1, ..."""

    centre: Number
    """Middle value, where it starts."""
    amplitude: Positive
    """Largest distance from the middle, greater than 0."""
    period: Positive
    """Arrivals until it comes back."""

    def values(self, parameter: Parameter, count: int, generator: np.random.Generator) -> Values:
        """A value comes back where the period is a whole number."""
        values: Values = self.centre + self.amplitude * np.sin(2.0 * math.pi * np.arange(count) / self.period)
        return values


PATHS: dict[str, type[Path]] = {"line": Line, "random-walk": RandomWalk, "sinusoid": Sinusoid}


@STREAMS.register("drift")
class Drift(StreamKind):
    """A task that changes gradually: every arrival is another task, near the one before."""

    kind: Literal["drift"] = "drift"
    family: FamilyName
    count: Count = Field(alias="tasks")
    """Number of arrivals, at least 1."""
    path: Literal["line", "random-walk", "sinusoid"]
    """How the parameters change."""
    parameters: dict[str, SerializeAsAny[Path]]
    """Settings of the path by parameter: ``from`` and ``to`` | ``start`` and ``step`` | ``centre``, ``amplitude`` and
    ``period``."""
    fixed: Table = Field(default_factory=dict)
    """Values of other parameters that stay; those in neither table are at their defaults."""

    @field_validator("parameters", mode="before")
    @classmethod
    def _choose_path(cls, given: object, info: Any) -> object:
        if not isinstance(given, Mapping) or "path" not in info.data:  # the latter was told already
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
            raise MetaMapError(f"{twice!r} is in parameters and in fixed, expected it in one of them")
        self.tasks(np.random.default_rng(0))  # what a random path can reach is inside its family's bounds always
        return self

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """One point of the path after another."""
        family = get_family(self.family)
        columns = {
            name: self._column(path, name, child)
            for (name, path), child in zip(self.parameters.items(), generator.spawn(len(self.parameters)), strict=True)
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [family.task({**self.fixed, **dict(zip(columns, row, strict=True))}) for row in rows]

    def _column(self, path: Path, name: str, generator: np.random.Generator) -> Values:
        """Values [T] of one parameter, as a task takes them."""
        parameter = _parameter(self.family, name)
        try:
            values = path.values(parameter, self.count, generator)
        except MetaMapError as error:
            raise MetaMapError(f"parameters.{name}: {error}") from None
        if not parameter.periodic:
            return parameter.rounded(values)
        values = np.round((values + math.pi) % (2.0 * math.pi) - math.pi, _DECIMALS)
        return np.clip(values, parameter.low, parameter.high)  # pi is rounded up, to an angle that is none

    @property
    def family_names(self) -> tuple[str, ...]:
        """The one family."""
        return (self.family,)


def _parameter(family: str, name: str) -> Parameter:
    """A parameter that can change gradually.

    Raises:
        MetaMapError: the family has none of that name, or it has a few values only.
    """
    known = {parameter.name: parameter for parameter in get_family(family).space.parameters}
    if name not in known:
        raise unknown_name(f"parameter of family {family!r}", name, known)
    if known[name].choices:
        raise MetaMapError(f"parameter {name!r} has the values {known[name].choices} only: it cannot drift")
    return known[name]


def _training_range(parameter: Parameter) -> tuple[float, float]:
    """Lowest and highest value of training tasks."""
    return min(low for low, _ in parameter.train), max(high for _, high in parameter.train)


def reflect(values: Values, low: float, high: float) -> Values:
    """Fold values back at both ends of a range."""
    width = high - low
    folded: Values = np.abs((values - low + width) % (2.0 * width) - width)
    return high - (width - folded) if width else np.full_like(values, low)
