"""Update loop of gradient-based learners: draw rollouts, compute the loss, backward pass, optimiser step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.runtime.storage import check_arrays
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import KeepsNothing
from metamap_rl.stream.learners.step import Step
from metamap_rl.stream.memory import Memory
from metamap_rl.training.updates import gradient_step, learning_rate, new_optimiser

__all__ = ["GradientLearner", "state_by_parameter"]


def state_by_parameter(arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper, what: str) -> dict[str, Tensor]:
    """State of a learner by parameter of `EmbodiedMapper.theta`; parameters may be missing.

    Raises:
        MetaMapError: an unknown parameter, or an array that has neither its shape nor a single number.
    """
    shapes = {
        name: tuple(tensor.shape) if np.ndim(arrays[name]) else ()
        for name, tensor in mapper.theta().items()
        if name in arrays
    }
    check_arrays(arrays, shapes, what)
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


class GradientLearner(KeepsNothing):
    """Base class of learners with the shared update loop; without overrides it is fine-tuning on the new task."""

    name: ClassVar[str]
    retention: ClassVar[str] = "none"
    validated: ClassVar[bool] = True

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `MapperLearner`."""
        weights: Tensor = mapper(embodiment, features)
        return weights

    def update(self, step: Step) -> None:
        """See `MapperLearner`. The optimiser is new for each task, so that it has no state to keep."""
        self.begin(step)
        self.descend(step, step.config.updates)
        self.end(step)

    def descend(self, step: Step, updates: int) -> None:
        """Make ``updates`` gradient steps on `loss`.

        Raises:
            MetaMapError: the loss or its gradient is not finite.
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
        """Hook before the first gradient step of a task."""

    def loss(self, step: Step) -> Tensor:
        """Loss of one gradient step, a scalar; default the new task's loss."""
        return step.pair_loss(step.new(step.config.batch_tasks))

    def adjust_gradient(self, step: Step) -> None:
        """Hook between the backward pass and clipping: may change the gradients in place."""

    def adjust_theta(self, step: Step) -> None:
        """Hook after the optimiser's step: may change theta in place."""

    def end(self, step: Step) -> None:
        """Hook after the last gradient step of a task."""
