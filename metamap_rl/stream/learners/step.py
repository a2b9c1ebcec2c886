"""One update of the mapper, as a learner gets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.stream.windows import StreamBatch, by_embodiment, draw
from metamap_rl.training.config import UpdateConfig
from metamap_rl.training.losses import LOSSES, Loss, Outcome, behaviour, weights

__all__ = ["Experience", "Step"]


@dataclass(frozen=True)
class Experience:
    """Training data of a stage: rollouts of one task with its expert's weights and behaviour."""

    slot: int
    """The learner's own count of segments."""
    embodiment: str
    items: tuple[Item, ...]
    """Rollouts to learn from; one more may be in memory, held out to validate on."""


@dataclass(frozen=True)
class Step:
    """One update of the mapper: batches and losses for learners."""

    mapper: EmbodiedMapper
    experience: Experience
    memory: Memory
    config: UpdateConfig
    generator: torch.Generator

    @cached_property
    def old(self) -> list[Item]:
        """Rollouts of other tasks that memory offers for replay; may be empty."""
        return [item for item in self.memory.replayable() if item.slot != self.experience.slot]

    def draw(self, items: Sequence[Item], count: int, *, by_slot: bool = False) -> list[StreamBatch]:
        """Draw ``count`` windows from items; see :func:`metamap_rl.stream.windows.draw`."""
        return draw(items, count, self.config, self.generator, by_slot=by_slot)

    def new(self, count: int) -> list[StreamBatch]:
        """Draw ``count`` windows of the task that was just learnt."""
        return self.draw(self.experience.items, count)

    def generate(self, rows: Sequence[StreamBatch]) -> list[Tensor]:
        """Generate phi_hat [B, P] of each batch; results are cached.

        All rows of an embodiment go through its head together: its gradient, the largest of all, is then made once.
        """
        for embodiment, parts in by_embodiment(part for part in rows if part.generated is None).items():
            made = self.mapper(embodiment, *(part.features for part in parts))
            for part, generated in zip(parts, made.split([len(part) for part in parts]), strict=True):
                part.generated = generated
        return [part.generated for part in rows if part.generated is not None]

    def pair_loss(self, rows: Sequence[StreamBatch]) -> Tensor:
        """Loss of phi_hat against phi*, the mean over all rollouts; 0 where there are none."""
        return _mean(LOSSES.get(self.config.loss), self._outcomes(rows, lambda part: part.targets))

    def dark_loss(self, rows: Sequence[StreamBatch]) -> Tensor:
        """Mean squared error against the outputs of the mapper's policies at storage time (dark experience)."""
        return _mean(behaviour, self._outcomes(rows, lambda part: part.dark))

    def weights_loss(self, rows: Sequence[StreamBatch]) -> Tensor:
        """Mean squared distance of phi_hat from the rows' ``phi``, in the mapper's units."""
        return _mean(weights, self._outcomes(rows, lambda part: part.targets))

    def _outcomes(self, rows: Sequence[StreamBatch], targets: Callable[[StreamBatch], Tensor]) -> list[Outcome]:
        """Outcomes of a loss, one for each embodiment."""
        self.generate(rows)
        return [self._outcome(embodiment, parts, targets) for embodiment, parts in by_embodiment(rows).items()]

    def _outcome(
        self, embodiment: str, parts: Sequence[StreamBatch], targets: Callable[[StreamBatch], Tensor]
    ) -> Outcome:
        mapper = self.mapper[embodiment]
        return Outcome(
            spec=mapper.base.spec,
            phi_hat=torch.cat(self.generate(parts)),
            phi=torch.cat([part.phi for part in parts]),
            scale=mapper.weight_scale,
            inputs=torch.cat([part.inputs for part in parts]),
            targets=torch.cat([targets(part) for part in parts]),
            weights_coefficient=self.config.weights_coefficient,
        )


def _mean(loss: Loss, outcomes: Sequence[Outcome]) -> Tensor:
    """Mean over all rollouts."""
    total = sum(len(outcome.phi) for outcome in outcomes)
    return sum((len(outcome.phi) / total * loss(outcome) for outcome in outcomes), torch.zeros(()))
