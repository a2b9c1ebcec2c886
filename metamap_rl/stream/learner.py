"""Learners: how the mapper is updated when a task of a stream has been learnt.

A learner is a dataclass (its fields are its settings) in a module of `metamap_rl.stream.learners`, filed under
``@LEARNERS.register("name")``; nothing else is edited. Most of them differ in a line or two of the one update loop
in `metamap_rl.stream.gradient`: what is added to the loss, what is done to the gradient, what is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Protocol, cast

import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import STRICT, Number, Whole
from metamap_rl.common.registry import Registry, load_modules
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.training.losses import LOSSES

__all__ = [
    "LEARNERS",
    "Experience",
    "KeepsNothing",
    "Learner",
    "UpdateConfig",
    "list_learners",
    "make_learner",
]


@dataclass(frozen=True)
class UpdateConfig:
    """How the mapper is updated after a task. The work does not depend on how many tasks came before.

    Raises:
        MetaMapError: an unknown loss, or a number out of range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    updates: Whole = 300
    """Gradient steps per task, at least 0."""
    batch: Whole = 16
    """Rollouts in a batch, new and replayed together; at least 2."""
    states: Whole = 64
    """The expert's states per rollout in a batch, for the behaviour loss."""
    learning_rate: Number = 2e-3
    """Highest rate of AdamW; in each update it rises over the warm-up and falls to 0 along a cosine."""
    warmup: Whole = 10
    """Gradient steps over which the rate rises."""
    weight_decay: Number = 1e-4
    """Decoupled weight decay, per unit of learning rate."""
    gradient_clip: Number = 1.0
    """Largest norm of the gradient."""
    loss: str = "both"
    """What is minimised: behaviour, weights, or both."""
    weights_coefficient: Number = 1.0
    """Share of the weight loss in "both"."""
    lengths: tuple[Whole, ...] = (10, 20, 50, 100, 200)
    """Lengths of D, one drawn for each gradient step; those longer than the rollouts are left out."""
    from_start: Number = 0.5
    """Share of the D that begin at a rollout's first step; the others begin anywhere."""

    def __post_init__(self) -> None:
        LOSSES.get(self.loss)
        least = {"updates": 0, "batch": 2, "states": 1, "warmup": 0, "weight_decay": 0, "weights_coefficient": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise MetaMapError(f"{name}: expected >= {bound}, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise MetaMapError(f"{name}: expected > 0, got {getattr(self, name)}")
        if not self.lengths or min(self.lengths) < 1 or not 0 <= self.from_start <= 1:
            raise MetaMapError("expected lengths >= 1 and a share from_start in [0, 1]")


@dataclass(frozen=True)
class Experience:
    """What a stage of the stream teaches: rollouts of one task with its expert's weights and behaviour."""

    slot: int
    """The learner's own count of segments."""
    embodiment: str
    items: tuple[Item, ...]
    """Rollouts to learn from; one more may be in memory, held out to validate on."""


class Learner(Protocol):
    """What the streaming loop needs of a learner. Its state is in the mapper, in memory, and in its own arrays."""

    name: ClassVar[str]
    retention: ClassVar[str]
    """Which memory it learns from (`metamap_rl.stream.memory.RETENTIONS`)."""
    validated: ClassVar[bool]
    """Whether an update that makes a validation set drawn from memory worse is rolled back."""

    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """Map D to weights: feature rows [B, k, F] of one embodiment to phi_hat [B, P], without gradient."""
        ...

    def update(
        self,
        mapper: EmbodiedMapper,
        experience: Experience,
        memory: Memory,
        config: UpdateConfig,
        generator: torch.Generator,
    ) -> None:
        """Change the mapper in place. All randomness comes from ``generator``."""
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
        """See `Learner`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Learner`."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `Learner`."""
        if arrays:
            raise MetaMapError(f"learner {self.name!r} keeps no arrays, the checkpoint has {sorted(arrays)[0]!r}")


LEARNERS: Registry[type[Any]] = Registry("learner")


@cache
def _load_modules() -> None:
    """Import every module of `metamap_rl.stream.learners`, each of which files its learners."""
    import metamap_rl.stream.learners as package

    load_modules(package)


def list_learners() -> tuple[str, ...]:
    """Names of all learners, sorted."""
    _load_modules()
    return LEARNERS.names()


def make_learner(settings: Mapping[str, Any]) -> Learner:
    """Make a learner from ``{"name": ..., setting: value, ...}``; settings left out are at their defaults.

    Raises:
        MetaMapError: no or an unknown name, an unknown setting, or a value out of range.
    """
    _load_modules()
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
    return cast(Learner, kind(**given))
