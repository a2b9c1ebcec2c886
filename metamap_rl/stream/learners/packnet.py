"""PackNet: each task freezes a fraction of the free parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.stream.learners.gradient import GradientLearner, state_by_parameter
from metamap_rl.stream.learners.step import Step

__all__ = ["PackNet"]


@LEARNERS.register("packnet")
@dataclass
class PackNet(GradientLearner):
    """Freezes the largest parameters of each task (Mallya and Lazebnik 2018).

    A task trains the free parameters. Then, in each tensor, the largest ``share`` of them is kept, the others are reset
    to zero and stay free, and those kept are retrained within the same number of gradient steps, then frozen.

    In the paper the task is given at test time and selects its parameters. Here it is unknown, so all parameters are
    active: later tasks can change the output of earlier ones, though not their parameters. Biases are treated like
    weights, and a new embodiment's head is free. The free parameters shrink by ``share`` with every task, so in a long
    stream the mapper stops learning.
    """

    share: float = 0.3
    """Fraction of the free parameters that a task keeps, in (0, 1)."""
    retrain: float = 0.3
    """Fraction of the gradient steps for retraining the kept parameters, in [0, 1)."""

    kept: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Masks of the frozen parameters, bool, by parameter, of its shape."""
    _still: list[tuple[nn.Parameter, Tensor, Tensor]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )

    name: ClassVar[str] = "packnet"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 0 <= self.retrain < 1:
            raise MetaMapError(f"learner 'packnet': expected share in (0, 1) and retrain in [0, 1), got {self}")

    def update(self, step: Step) -> None:
        """See `MapperLearner`."""
        updates = step.config.updates
        if not updates:
            return
        theta = step.mapper.theta(step.experience.embodiment)
        kept = {name: self.kept.get(name, torch.zeros_like(tensor, dtype=torch.bool)) for name, tensor in theta.items()}
        retraining = round(self.retrain * updates)
        self._train(step, {name: ~mask for name, mask in kept.items()}, updates - retraining)
        chosen = {name: _largest(theta[name].detach(), ~mask, self.share) for name, mask in kept.items()}
        for name, parameter in theta.items():
            self.kept[name] = kept[name] | chosen[name]
            _set(parameter, ~self.kept[name], torch.zeros_like(parameter))
        self._train(step, chosen, retraining)

    def _train(self, step: Step, movable: Mapping[str, Tensor], updates: int) -> None:
        """Gradient steps on some of the parameters; the others do not change."""
        theta = step.mapper.theta(step.experience.embodiment)
        self._still = [(theta[name], ~mask, theta[name].detach().clone()) for name, mask in movable.items()]
        self.descend(step, updates)
        self._still = []

    def adjust_gradient(self, step: Step) -> None:
        """Exclude frozen parameters from the gradient and its clipping."""
        for parameter, still, _ in self._still:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(still, 0.0)

    def adjust_theta(self, step: Step) -> None:
        """Undo the weight decay of frozen parameters."""
        for parameter, still, value in self._still:
            _set(parameter, still, value)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Masks of the frozen parameters."""
        return {name: np.array(mask.numpy()) for name, mask in self.kept.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `MapperLearner`."""
        self.kept = state_by_parameter(arrays, mapper, "learner 'packnet': masks")


def _largest(tensor: Tensor, free: Tensor, share: float) -> Tensor:
    """Mask of the fraction of free entries with the largest absolute values, rounded up."""
    size = torch.where(free, tensor.abs(), -1.0).flatten()
    count = int(np.ceil(share * int(free.sum())))
    chosen = torch.zeros_like(size, dtype=torch.bool)
    chosen[size.topk(count).indices] = True
    return chosen.reshape(tensor.shape)


@torch.no_grad()
def _set(parameter: nn.Parameter, where: Tensor, value: Tensor) -> None:
    parameter.copy_(torch.where(where, value, parameter))
