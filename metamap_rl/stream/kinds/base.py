"""Base class of kinds of streams, which generate tasks; and arrivals, which are tasks with boundaries."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, Whole
from metamap_envs.task import Task
from metamap_rl.common.registry import Registry

__all__ = [
    "STREAMS",
    "Arrival",
    "Count",
    "FamilyName",
    "FamilyNames",
    "Order",
    "StreamKind",
    "Table",
    "arrivals",
    "draw_evenly",
    "ordered",
    "revisits",
    "tables_to_tasks",
]

TRAIN = "train"
"""Split of the tasks of streams."""


@dataclass(frozen=True)
class Arrival:
    """One task as it arrives."""

    task: Task
    boundary: bool
    """Whether the task differs from the previous arrival's; True for the first."""


def arrivals(tasks: Iterable[Task]) -> tuple[Arrival, ...]:
    """Mark the boundaries in a sequence of tasks; an iterator is exhausted.

    ``arrivals(itertools.islice(my_tasks(), 20))`` makes a stream of any generator.

    Raises:
        MetaMapError: no tasks, or an item that is not a task.
    """
    found: list[Arrival] = []
    for task in tasks:
        if not isinstance(task, Task):
            raise MetaMapError(f"arrival {len(found) + 1} of the stream: expected a Task, got {task!r}")
        found.append(Arrival(task, boundary=not found or task.id != found[-1].task.id))
    if not found:
        raise MetaMapError("the stream is empty: expected at least 1 task, got none")
    return tuple(found)


def revisits(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Tasks that come back after another one, each once, in order.

    Consecutive arrivals of a task are not revisits. Tasks are equal if family and parameters are.
    """
    seen: set[str] = set()
    back: dict[str, Task] = {}
    for name, group in itertools.groupby(tasks, key=lambda task: task.id):
        if name in seen:
            back.setdefault(name, next(group))
        seen.add(name)
    return tuple(back.values())


class StreamKind(Settings, ABC):
    """Base class of generators of task sequences; to add one, register a subclass in `STREAMS`.

    Its fields are the keys of a config, validated on construction as far as possible without drawing.
    """

    kind: str

    @abstractmethod
    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Draw the tasks, at least one, in order of arrival.

        Args:
            generator: generator seeded with the stream's seed.
        """

    @property
    @abstractmethod
    def family_names(self) -> tuple[str, ...]:
        """Names of the families of the tasks, each once."""


STREAMS: Registry[type[StreamKind]] = Registry("kind of stream")


# types of fields ------------------------------------------------------------------------------------------------------


def _check_family(name: str) -> str:
    get_family(name)
    return name


def _check_count(count: int) -> int:
    if count < 1:
        raise MetaMapError(f"the stream is empty: expected at least 1, got {count}")
    return count


def _check_families(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise MetaMapError("the stream is empty: expected at least 1 family, got none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MetaMapError(f"expected each family once, got {twice!r} {names.count(twice)} times")
    return names


FamilyName = Annotated[str, AfterValidator(_check_family)]
"""Name of a registered family."""
FamilyNames = Annotated[tuple[FamilyName, ...], AfterValidator(_check_families)]
"""Distinct names of registered families, at least one."""
Count = Annotated[Whole, AfterValidator(_check_count)]
"""A number of tasks or arrivals, at least 1."""
Order = Annotated[Whole, Field(ge=0)]
"""Number of a permutation of the families, see `ordered`."""
Table = dict[str, Any]
"""Parameters of a family by name; the others have their default values."""


# helpers of kinds -----------------------------------------------------------------------------------------------------


def ordered(names: Sequence[str], order: int) -> tuple[str, ...]:
    """Return a permutation of n names by its number.

    0 is the given order and 1 its reverse. Permutations are numbered from both ends of their lexicographic order in
    turn (2 is the second, 3 the last but one), modulo n!.
    """
    total = math.factorial(len(names))
    half, from_the_end = divmod(order % total, 2)
    rank = total - 1 - half if from_the_end else half
    left, found = list(names), []
    for size in range(len(names), 0, -1):
        index, rank = divmod(rank, math.factorial(size - 1))
        found.append(left.pop(index))
    return tuple(found)


def draw_evenly(names: Sequence[str], count: int, generator: np.random.Generator) -> dict[str, list[Task]]:
    """Draw ``count`` training tasks of several families, split evenly; the first families get the remainder.

    Each family has its own generator.
    """
    share, rest = divmod(count, len(names))
    children = generator.spawn(len(names))
    return {
        name: get_family(name).sample(TRAIN, share + (index < rest), child)
        for index, (name, child) in enumerate(zip(names, children, strict=True))
    }


def tables_to_tasks(family: str, tables: Mapping[str, Table]) -> tuple[Task, ...]:
    """Build tasks of one family from parameter tables.

    Args:
        family: name of the family.
        tables: parameters, by name of the table.

    Raises:
        MetaMapError: an invalid table; the message names it.
    """
    found = []
    for name, table in tables.items():
        try:
            found.append(get_family(family).task(table))
        except MetaMapError as error:
            raise MetaMapError(f"{name}: {error}") from None
    return tuple(found)
