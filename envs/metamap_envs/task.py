"""Tasks: immutable points of a family's parameter space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["CUSTOM_SPLIT", "Task"]

CUSTOM_SPLIT = "custom"
"""Split of a task whose parameters were given by hand instead of sampled."""


class _Family(Protocol):
    """What checks the parameters of a task."""

    def task(self, parameters: Mapping[str, object] | None = None, split: str = CUSTOM_SPLIT) -> Task: ...


@dataclass(frozen=True)
class Task:
    """One immutable, hashable, JSON-able point of a family. It never changes on reset.

    Make tasks with `Family.task` or `Family.sample`, which check the parameters; the constructor does not.

    Attributes:
        family: name of the family.
        parameters: every parameter of the family as (name, value), in the family's order.
        split: the split that the task was sampled for, or "custom".
    """

    family: str
    parameters: tuple[tuple[str, float], ...]
    split: str = CUSTOM_SPLIT

    find_family: ClassVar[Callable[[str], _Family]]
    """A family by its name, for `from_json`; `metamap_envs.registry`, which knows the families, puts it here."""

    @cached_property
    def id(self) -> str:
        """Short stable name, safe as a file name; it depends on family and parameters, not on the split."""
        text = json.dumps([self.family, self.parameters], separators=(",", ":"))
        return f"{self.family}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Parameter values, float64 [P], read-only, in the family's order."""
        values = np.array([value for _, value in self.parameters], dtype=np.float64)
        values.flags.writeable = False
        return values

    def __getitem__(self, name: str) -> float:
        """Value of one parameter.

        Raises:
            KeyError: the task has no parameter of that name.
        """
        return dict(self.parameters)[name]

    def __reduce__(self) -> tuple[type[Task], tuple[object, ...]]:
        """Pickle the fields only: cached arrays would come back writeable."""
        return Task, (self.family, self.parameters, self.split)

    def describe(self) -> str:
        """Human-readable parameters, e.g. ``target_velocity=1.25``."""
        return ", ".join(f"{name}={value:.4g}" for name, value in self.parameters)

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values; `from_json` reads it back."""
        return {"family": self.family, "parameters": dict(self.parameters), "split": self.split}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Task:
        """Read a task written by `to_json`, checking it against its family.

        Raises:
            MetaMapError: a key is missing, the family or a parameter is unknown, or a value out of bounds.
        """
        if not isinstance(document, Mapping):
            raise MetaMapError(f"a task is a JSON object with family, parameters and split, got {document!r}")
        missing = {"family", "parameters", "split"} - set(document)
        if missing:
            raise MetaMapError(f"a task needs the key {min(missing)!r}; it has {sorted(map(str, document))}")
        parameters = document["parameters"]
        if isinstance(parameters, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in parameters):
            parameters = dict(parameters)  # as `EnvSpec.to_json` writes the fields of a task
        return cls.find_family(document["family"]).task(parameters, split=document["split"])
