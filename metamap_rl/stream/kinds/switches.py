"""Streams that switch between a few tasks of one family: abruptly, in cycles, or by inversion of actions."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family, list_families
from metamap_envs.settings import Whole
from metamap_envs.task import Task
from metamap_rl.stream.kinds.base import STREAMS, TRAIN, Count, FamilyName, StreamKind, Table, tables_to_tasks

__all__ = ["Abrupt", "Cycles", "Distraction"]

_SIGN = "sign_"


class _OneFamily(StreamKind):
    """Tasks of one family."""

    family: FamilyName

    @property
    def family_names(self) -> tuple[str, ...]:
        """The one family."""
        return (self.family,)


class _Points(_OneFamily):
    """A few tasks of one family: drawn from its training split, or given."""

    count: Count | None = Field(default=None, alias="tasks")
    """Number of tasks to draw; None if they are given."""
    parameters: tuple[Table, ...] | None = None
    """Parameters of each task; the others have their default values. None if tasks are drawn."""

    @model_validator(mode="after")
    def _check_points(self) -> _Points:
        if (self.count is None) == (self.parameters is None):
            raise MetaMapError("expected either tasks, how many to draw, or parameters, a table for each task")
        if self.parameters is not None and not self.parameters:
            raise MetaMapError("parameters: the stream is empty: expected a table for each task, got none")
        self._given()
        return self

    def _given(self) -> tuple[Task, ...]:
        tables = {f"parameters[{index}]": table for index, table in enumerate(self.parameters or ())}
        return tables_to_tasks(self.family, tables)

    def _points(self, generator: np.random.Generator) -> list[Task]:
        """The tasks, each once."""
        if self.count is None:
            return list(self._given())
        return get_family(self.family).sample(TRAIN, self.count, generator)


@STREAMS.register("abrupt")
class Abrupt(_Points):
    """Abrupt switches between tasks that stay for several arrivals."""

    kind: Literal["abrupt"] = "abrupt"
    hold: Count = 5
    """Arrivals of each task before the switch to the next, at least 1."""

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Each point `hold` times."""
        return [task for task in self._points(generator) for _ in range(self.hold)]


@STREAMS.register("cycles")
class Cycles(_Points):
    """A few tasks in a repeated cycle."""

    kind: Literal["cycles"] = "cycles"
    repeats: Annotated[Whole, Field(ge=1)] = 3
    """Number of cycles, at least 1."""

    @model_validator(mode="after")
    def _check_length(self) -> Cycles:
        length = self.count if self.count is not None else len(self.parameters or ())
        if length < 2:
            raise MetaMapError(f"expected a cycle of at least 2 tasks, got {length}")
        return self

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """All points, `repeats` times."""
        return self._points(generator) * self.repeats


@STREAMS.register("distraction")
class Distraction(_OneFamily):
    """Alternating blocks of normal and inverted actions."""

    kind: Literal["distraction"] = "distraction"
    turns: Annotated[Whole, Field(ge=2)] = 4
    """Number of blocks, normal first, at least 2."""
    hold: Count = 1
    """Arrivals per block, at least 1."""
    normal: Table = Field(default_factory=dict)
    """Parameters of normal blocks. By default every parameter sign_* is 1, and the others have their default values."""
    inverted: Table | None = None
    """Parameters of inverted blocks. By default those of normal blocks with every sign_* negated."""

    @model_validator(mode="after")
    def _check_tables(self) -> Distraction:
        normal, inverted = self._pair()
        if normal == inverted:
            raise MetaMapError("normal and inverted are the same task, expected two")
        return self

    def _pair(self) -> tuple[Task, ...]:
        signs = _signs(self.family)
        if self.inverted is None and not signs:
            raise MetaMapError(
                f"family {self.family!r} has no parameters {_SIGN}*: expected a table inverted, or one of the families "
                f"{', '.join(name for name in list_families() if _signs(name))}"
            )
        (normal,) = tables_to_tasks(self.family, {"normal": dict.fromkeys(signs, 1.0) | self.normal})
        inverted = dict(normal.parameters) | {name: -normal[name] for name in signs}
        return normal, *tables_to_tasks(self.family, {"inverted": inverted if self.inverted is None else self.inverted})

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Blocks of `hold` arrivals."""
        pair = self._pair()
        return [pair[turn % 2] for turn in range(self.turns) for _ in range(self.hold)]


def _signs(family: str) -> list[str]:
    """Names of the parameters that invert an action."""
    return [name for name in get_family(family).space.names if name.startswith(_SIGN)]
