"""The update loop that gradient-based learners share: draw new and stored rollouts, loss, back-propagate, step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.runtime.storage import check_arrays
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import Experience, KeepsNothing
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.stream.windows import StreamBatch, by_embodiment, draw
from metamap_rl.training.config import UpdateConfig
from metamap_rl.training.losses import LOSSES, Loss, Outcome, behaviour, weights
from metamap_rl.training.updates import gradient_step, learning_rate, new_optimiser

__all__ = ["GradientLearner", "Step", "state_by_parameter"]


@dataclass(frozen=True)
class Step:
    """What a learner may use for the loss of one gradient step."""

    mapper: EmbodiedMapper
    experience: Experience
    old: Sequence[Item]
    """Rollouts of other tasks that memory offers for replay; may be empty."""
    config: UpdateConfig
    generator: torch.Generator

    def draw(self, items: Sequence[Item], count: int, *, by_slot: bool = False) -> list[StreamBatch]:
        """Draw ``count`` windows from items; see :func:`metamap_rl.stream.windows.draw`."""
        return draw(items, count, self.config, self.generator, by_slot=by_slot)

    def new(self, count: int) -> list[StreamBatch]:
        """Draw ``count`` windows of the task that was just learnt."""
        return self.draw(self.experience.items, count)

    def generate(self, rows: Sequence[StreamBatch]) -> list[Tensor]:
        """phi_hat [B, P] of each; what was asked for before is not computed again.

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
        """Mean squared error against what the mapper's own policies did when they were stored."""
        return _mean(behaviour, self._outcomes(rows, lambda part: part.dark))

    def weights_loss(self, rows: Sequence[StreamBatch]) -> Tensor:
        """Mean squared distance of phi_hat from the rows' ``phi``, in the mapper's units."""
        return _mean(weights, self._outcomes(rows, lambda part: part.targets))

    def _outcomes(self, rows: Sequence[StreamBatch], targets: Callable[[StreamBatch], Tensor]) -> list[Outcome]:
        """What came out and what should have, one of each embodiment."""
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


def state_by_parameter(arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper, what: str) -> dict[str, Tensor]:
    """What a learner kept for each parameter, by the names of `EmbodiedMapper.theta`; not all of them need be there.

    Raises:
        MetaMapError: an array for a parameter that the mapper has not, or neither of its shape nor a single number.
    """
    shapes = {
        name: tuple(tensor.shape) if np.ndim(arrays[name]) else ()
        for name, tensor in mapper.theta().items()
        if name in arrays
    }
    check_arrays(arrays, shapes, what)
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _mean(loss: Loss, outcomes: Sequence[Outcome]) -> Tensor:
    """Mean over all rollouts."""
    total = sum(len(outcome.phi) for outcome in outcomes)
    return sum((len(outcome.phi) / total * loss(outcome) for outcome in outcomes), torch.zeros(()))


class GradientLearner(KeepsNothing):
    """The update loop that learners share; what a subclass does not change is fine-tuning on the new task."""

    name: ClassVar[str]
    retention: ClassVar[str] = "none"
    validated: ClassVar[bool] = True

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `MapperLearner`."""
        weights: Tensor = mapper(embodiment, features)
        return weights

    def update(
        self,
        mapper: EmbodiedMapper,
        experience: Experience,
        memory: Memory,
        config: UpdateConfig,
        generator: torch.Generator,
    ) -> None:
        """See `MapperLearner`. The optimiser is made anew for each task, so nothing of it has to be kept."""
        old = [item for item in memory.replayable() if item.slot != experience.slot]
        step = Step(mapper, experience, old, config, generator)
        self.begin(step)
        self.descend(step, config.updates)
        self.end(step)

    def descend(self, step: Step, updates: int) -> None:
        """Make ``updates`` gradient steps on `loss`.

        Raises:
            MetaMapError: the loss or its gradient stopped being finite.
        """
        config = replace(step.config, updates=updates)
        optimiser = new_optimiser(step.mapper.parameters(), config)
        for update in range(updates):
            gradient_step(
                self.loss(step),
                optimiser,
                update=update,
                rate=learning_rate(update, config),
                clip=config.gradient_clip,
                adjust=lambda: self.adjust_gradient(step),
            )
            self.adjust_theta(step)

    def begin(self, step: Step) -> None:
        """Before the first gradient step of a task."""

    def loss(self, step: Step) -> Tensor:
        """What one gradient step minimises, a scalar; the new task's loss by default."""
        return step.pair_loss(step.new(step.config.batch_tasks))

    def adjust_gradient(self, step: Step) -> None:
        """Between the backward pass and the clipping: may change the gradients in place."""

    def adjust_theta(self, step: Step) -> None:
        """After the optimiser's step: may change theta in place."""

    def end(self, step: Step) -> None:
        """After the last gradient step of a task."""
