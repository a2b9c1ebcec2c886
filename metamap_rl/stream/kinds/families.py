"""Streams of tasks drawn from the training split of one or several families."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_rl.stream.kinds.base import (
    STREAMS,
    TRAIN,
    Count,
    FamilyName,
    FamilyNames,
    Order,
    StreamKind,
    draw_evenly,
    ordered,
)

__all__ = ["Embodiments", "Families", "Long", "Sequential"]


@STREAMS.register("sequential")
class Sequential(StreamKind):
    """Tasks of one family."""

    kind: Literal["sequential"] = "sequential"
    family: FamilyName
    count: Count = Field(alias="tasks")
    """Number of tasks, at least 1."""

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """A Sobol sample of the family."""
        return get_family(self.family).sample(TRAIN, self.count, generator)

    @property
    def family_names(self) -> tuple[str, ...]:
        """The one family."""
        return (self.family,)


class _Several(StreamKind):
    """Tasks of several families, split evenly (the first families get the remainder)."""

    families: FamilyNames
    """Names of the families."""
    count: Count = Field(alias="tasks")
    """Total number of tasks, at least one for each family."""
    order: Order = 0
    """Number of the permutation of the families: 0 is as written, 1 reversed, then all the others (see `ordered`).
    Every order has the same tasks of each family, in the same order among themselves."""

    @model_validator(mode="after")
    def _check_enough(self) -> _Several:
        if self.count < len(self.families):
            raise MetaMapError(
                f"tasks: expected at least one for each of {len(self.families)} families, got {self.count}"
            )
        return self

    @property
    def family_names(self) -> tuple[str, ...]:
        """As written."""
        return self.families


@STREAMS.register("families")
class Families(_Several):
    """Families one after another: all tasks of the first, then all of the second, and so on."""

    kind: Literal["families"] = "families"
    rounds: Count = 1
    """Times that the whole sequence comes, at least 1; with 2 it is as in Continual World's CW20."""

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Blocks in the order that `order` says, and all of them again in each further round."""
        drawn = draw_evenly(self.families, self.count, generator)
        return [task for name in ordered(self.families, self.order) for task in drawn[name]] * self.rounds


@STREAMS.register("embodiments")
class Embodiments(_Several):
    """Families of different robots by turns, one task each: observations and actions change size at every arrival."""

    kind: Literal["embodiments"] = "embodiments"

    @field_validator("families")
    @classmethod
    def _check_embodiments(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        found = {get_family(name).embodiment for name in families}
        if len(found) < 2:
            raise MetaMapError(f"expected families of at least two embodiments, all of these are {found.pop()!r}")
        return families

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Round robin in the order that `order` says."""
        drawn = draw_evenly(self.families, self.count, generator)
        rounds = itertools.zip_longest(*(drawn[name] for name in ordered(self.families, self.order)))
        return [task for row in rounds for task in row if task is not None]


@STREAMS.register("long")
class Long(_Several):
    """Many tasks, families mixed: rounds in which each family comes once, in an order drawn for each round.

    The mix is the same from the first task to the last, so that costs at both ends compare.
    """

    kind: Literal["long"] = "long"
    count: Count = Field(default=100, alias="tasks")
    """Total number of tasks, at least one for each family."""

    def tasks(self, generator: np.random.Generator) -> list[Task]:
        """Rounds of `ordered` families, shuffled each."""
        drawn = draw_evenly(self.families, self.count, generator)
        rounds = itertools.zip_longest(*(drawn[name] for name in ordered(self.families, self.order)))
        found: list[Task] = []
        for row in rounds:
            found += [row[index] for index in generator.permutation(len(row)) if row[index] is not None]
        return found
