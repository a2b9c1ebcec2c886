"""Learners: how the mapper is updated when a task of a stream has been learnt.

A learner is a dataclass (its fields are its settings) in a module of `metamap_rl.stream.learners`, filed under
``@LEARNERS.register("name")``; nothing else is edited. Most of them differ in a line or two of the one update loop
in `metamap_rl.stream.learners.gradient`: what is added to the loss, what is done to the gradient, what is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.common.registry import Registry
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.step import Step
from metamap_rl.stream.memory import Memory
from metamap_rl.training.config import UpdateConfig

__all__ = ["LEARNERS", "KeepsNothing", "MapperLearner", "list_learners", "make_learner"]


class MapperLearner(Protocol):
    """What the streaming loop needs of a learner. Its state is in the mapper, in memory, and in its own arrays."""

    name: ClassVar[str]
    retention: ClassVar[str]
    """Which memory it learns from (`metamap_rl.stream.memory.RETENTIONS`)."""
    validated: ClassVar[bool]
    """Whether an update that makes a validation set drawn from memory worse is rolled back."""

    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """Map D to weights: feature rows [B, k, F] of one embodiment to phi_hat [B, P], without gradient."""
        ...

    def update(self, step: Step) -> None:
        """Change the mapper in place. All randomness comes from the step's generator."""
        ...

    def finish(self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator) -> None:
        """The stream is over, whatever became of its last stage: make up for updates that were put off."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the learner keeps between tasks beside mapper and memory, for the checkpoint."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """Put back what `arrays` gave."""
        ...


class KeepsNothing:
    """A learner, or the part of one, that keeps no arrays of its own and puts nothing off."""

    name: ClassVar[str]

    def finish(self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator) -> None:
        """See `MapperLearner`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `MapperLearner`."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `MapperLearner`."""
        if arrays:
            raise MetaMapError(f"learner {self.name!r} keeps no arrays, the checkpoint has {sorted(arrays)[0]!r}")


LEARNERS: Registry[type[Any]] = Registry("learner")


def list_learners() -> tuple[str, ...]:
    """Names of all learners, sorted."""
    return LEARNERS.names()


def make_learner(settings: Mapping[str, Any]) -> MapperLearner:
    """Make a learner from ``{"name": ..., setting: value, ...}``; settings left out are at their defaults.

    Raises:
        MetaMapError: no or an unknown name, an unknown setting, or a value out of range.
    """
    given = dict(settings)
    if not isinstance(given.get("name"), str):
        raise MetaMapError(f"learner: expected a name, one of {', '.join(LEARNERS.names())}; got {given!r}")
    kind = LEARNERS.get(given.pop("name"))
    assert is_dataclass(kind), "learners are dataclasses"
    known = {item.name: item for item in fields(kind) if item.init}
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"setting of learner {settings['name']!r}", key, known)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MetaMapError(f"learner {settings['name']!r}: {key}: expected a number, got {value!r}")
        if known[key].type in (int, "int") and not isinstance(value, int):
            raise MetaMapError(f"learner {settings['name']!r}: {key}: expected a whole number, got {value!r}")
    return cast(MapperLearner, kind(**given))
