"""Interface of learners, which update the mapper after each task of a stream.

A learner is a dataclass (its fields are its settings) in a module of `metamap_rl.stream.learners`, registered with
``@LEARNERS.register("name")``. Most override parts of the update loop in `metamap_rl.stream.learners.gradient`: the
loss, the gradient, or the retention of memory.
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
    """Interface of learners. The state is in the mapper, the memory and the learner's arrays."""

    name: ClassVar[str]
    retention: ClassVar[str]
    """Retention of its memory (`metamap_rl.stream.memory.RETENTIONS`)."""
    validated: ClassVar[bool]
    """Whether updates are validated on memory and rolled back if they are worse."""

    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """Map D to weights: feature rows [B, k, F] of one embodiment to phi_hat [B, P], without gradients."""
        ...

    def update(self, step: Step) -> None:
        """Change the mapper in place. All randomness comes from the step's generator."""
        ...

    def finish(self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator) -> None:
        """Do deferred updates at the end of the stream."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State of the learner besides mapper and memory, for checkpoints."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """Restore the result of `arrays`."""
        ...


class KeepsNothing:
    """Mixin of learners without state and without deferred updates."""

    name: ClassVar[str]

    def finish(self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator) -> None:
        """See `MapperLearner`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `MapperLearner`."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `MapperLearner`."""
        if arrays:
            raise MetaMapError(f"learner {self.name!r} has no arrays, the checkpoint has {sorted(arrays)[0]!r}")


LEARNERS: Registry[type[Any]] = Registry("learner")


def list_learners() -> tuple[str, ...]:
    """Names of all learners, sorted."""
    return LEARNERS.names()


def make_learner(settings: Mapping[str, Any]) -> MapperLearner:
    """Make a learner from ``{"name": ..., setting: value, ...}``; other settings have their default values.

    Raises:
        MetaMapError: a missing or unknown name, an unknown setting, or a value out of range.
    """
    given = dict(settings)
    if not isinstance(given.get("name"), str):
        raise MetaMapError(f"learner: expected a name, one of {', '.join(LEARNERS.names())}; got {given!r}")
    kind = LEARNERS.get(given.pop("name"))
    assert is_dataclass(kind), "learners are dataclasses"
    known = {item.name: item for item in fields(kind) if item.init}
    for key, value in given.items():
        if key not in known:
            raise unknown_name("setting", key, known, of=f"learner {settings['name']!r}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MetaMapError(f"learner {settings['name']!r}: {key}: expected a number, got {value!r}")
        if known[key].type in (int, "int") and not isinstance(value, int):
            raise MetaMapError(f"learner {settings['name']!r}: {key}: expected a whole number, got {value!r}")
    return cast(MapperLearner, kind(**given))
