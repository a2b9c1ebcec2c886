"""Reference learners: no learning, fine-tuning only, joint retraining, the nearest stored expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import LEARNERS, KeepsNothing
from metamap_rl.stream.learners.gradient import GradientLearner
from metamap_rl.stream.learners.step import Experience, Step
from metamap_rl.stream.memory import Memory
from metamap_rl.training.config import UpdateConfig

__all__ = ["FineTuning", "JointRetraining", "NearestExpert", "Untrained"]

_NOTHING_NEW = Experience(-1, "", ())
"""For a new mapper all tasks are old."""


@LEARNERS.register("untrained")
@dataclass
class Untrained(KeepsNothing):
    """The mapper as it was made: phi_0 for every task, a lower bound."""

    name: ClassVar[str] = "untrained"
    retention: ClassVar[str] = "none"
    validated: ClassVar[bool] = False

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `MapperLearner`."""
        weights: Tensor = mapper(embodiment, features)
        return weights

    def update(self, step: Step) -> None:
        """Do nothing."""


@LEARNERS.register("finetune")
@dataclass
class FineTuning(GradientLearner):
    """Training on each new task alone."""

    name: ClassVar[str] = "finetune"
    validated: ClassVar[bool] = False


@LEARNERS.register("joint")
@dataclass
class JointRetraining(GradientLearner):
    """Retraining of a new mapper on all pairs seen so far, an upper bound; its cost grows with the stream."""

    most: int = 100_000
    """Maximum number of gradient steps of one retraining; below it, ``updates`` for each task seen, so that the last
    retraining takes as many as all updates of the other learners together."""
    every: int = 1
    """Tasks between retrainings, besides one at the end of the stream; in between the mapper does not change."""

    name: ClassVar[str] = "joint"
    retention: ClassVar[str] = "all"
    validated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.most >= 1 and self.every >= 1):
            raise MetaMapError(f"learner 'joint': expected most and every to be at least 1, got {self}")

    def update(self, step: Step) -> None:
        """See `MapperLearner`; theta is reinitialised each time."""
        if self._is_due(step.memory):
            self._retrain(step.mapper, step.memory, step.config, step.generator)

    def finish(self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator) -> None:
        """See `MapperLearner`; retrains with the tasks since the last retraining."""
        if not self._is_due(memory):  # else it was retrained after the last task
            self._retrain(mapper, memory, config, generator)

    def _is_due(self, memory: Memory) -> bool:
        return len(memory.slots) % self.every == 0

    def _retrain(
        self, mapper: EmbodiedMapper, memory: Memory, config: UpdateConfig, generator: torch.Generator
    ) -> None:
        fresh = mapper.blank(seed=int(torch.randint(2**31 - 1, (), generator=generator)))
        updates = min(self.most, config.updates * len(memory.slots))
        self.descend(Step(fresh, _NOTHING_NEW, memory, config, generator), updates)
        mapper.restore(fresh.arrays())

    def loss(self, step: Step) -> Tensor:
        """Loss on all tasks alike."""
        return step.pair_loss(step.draw(step.old, step.config.batch_tasks, by_slot=True))


@LEARNERS.register("nearest")
@dataclass
class NearestExpert(KeepsNothing):
    """The stored phi* whose rollout is most similar to D, without training.

    Distance: Euclidean, between means and standard deviations of the standardised feature rows.
    """

    name: ClassVar[str] = "nearest"
    retention: ClassVar[str] = "balanced"
    validated: ClassVar[bool] = False

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `MapperLearner`; phi_0 if nothing of the embodiment is stored, or D is empty."""
        stored = [item for item in memory.items if item.embodiment == embodiment]
        if not stored or not features.shape[1]:
            weights: Tensor = mapper(embodiment, features)
            return weights
        length = features.shape[1]
        known = torch.stack([_summary(mapper, item.embodiment, item.features[None, :length])[0] for item in stored])
        distance = torch.cdist(_summary(mapper, embodiment, features), known)
        return torch.stack([stored[index].phi for index in distance.argmin(dim=1).tolist()])

    def update(self, step: Step) -> None:
        """Do nothing: the memory is the only state."""


def _summary(mapper: EmbodiedMapper, embodiment: str, features: Tensor) -> Tensor:
    """Mean and standard deviation of standardised feature rows: [B, k, F] to [B, 2 F]."""
    rows = mapper[embodiment].standardised(features)
    return torch.cat([rows.mean(dim=1), rows.std(dim=1, correction=0)], dim=1)
