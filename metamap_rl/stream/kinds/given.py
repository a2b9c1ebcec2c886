"""Streams of explicitly given tasks: a list, or two changes and their composition."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import parse_split
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings
from metamap_envs.task import CUSTOM_SPLIT, Task
from metamap_rl.stream.kinds.base import STREAMS, Count, FamilyName, StreamKind, Table, tables_to_tasks

__all__ = ["Composition", "Tasks", "WrittenTask"]


def _check_split(name: str) -> str:
    return name if name == CUSTOM_SPLIT else parse_split(name).value


class WrittenTask(Settings):
    """One task, in the format of `Task.to_json`."""

    family: FamilyName
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters by name; the others have their default values."""
    split: Annotated[str, AfterValidator(_check_split)] = CUSTOM_SPLIT
    """Split that the task was sampled from, if any."""

    @model_validator(mode="after")
    def _check_parameters(self) -> WrittenTask:
        self.task()
        return self

    def task(self) -> Task:
        """The task itself."""
        return get_family(self.family).task(self.parameters, self.split)


def _check_some(written: tuple[WrittenTask, ...]) -> tuple[WrittenTask, ...]:
    if not written:
        raise MetaMapError("the stream is empty: expected at least 1 task, got none")
    return written


@STREAMS.register("tasks")
class Tasks(StreamKind):
    """A list of tasks of any families."""

    kind: Literal["tasks"] = "tasks"
    written: Annotated[tuple[WrittenTask, ...], AfterValidator(_check_some)] = Field(alias="tasks")
    """The tasks, each with ``family`` and ``parameters``."""

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """As written."""
        return [entry.task() for entry in self.written]

    @property
    def family_names(self) -> tuple[str, ...]:
        """In order of first occurrence."""
        return tuple(dict.fromkeys(entry.family for entry in self.written))


@STREAMS.register("composition")
class Composition(StreamKind):
    """A change a, then a change b, then both at once, to test compositional generalisation."""

    kind: Literal["composition"] = "composition"
    family: FamilyName
    a: Table
    """Parameters of the first change; the others have their default values."""
    b: Table
    """Parameters of the second change. Parameters in both must have equal values."""
    hold: Count = 1
    """Arrivals of each of the three tasks, at least 1."""

    @model_validator(mode="after")
    def _check_composition(self) -> Composition:
        if len(set(self._three())) < 3:
            raise MetaMapError("a, b and a+b are not three different tasks: expected different changes")
        return self

    def _three(self) -> tuple[Task, ...]:
        first, second = tables_to_tasks(self.family, {"a": self.a, "b": self.b})
        for name in self.a.keys() & self.b.keys():
            if first[name] != second[name]:
                raise MetaMapError(f"a+b would give {name!r} two values, {first[name]:g} and {second[name]:g}")
        return first, second, *tables_to_tasks(self.family, {"a+b": self.a | self.b})

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """The three tasks, `hold` times each."""
        return [task for task in self._three() for _ in range(self.hold)]

    @property
    def family_names(self) -> tuple[str, ...]:
        """The one family."""
        return (self.family,)
