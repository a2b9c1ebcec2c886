"""Learners that regularise theta towards its previous value, uniformly or by importance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
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

__all__ = ["L2", "OnlineEWC"]


@dataclass
class _HoldingTheta(GradientLearner, ABC):
    """``L(new) + strength / 2 sum_i F_i (theta_i - theta_i before the task)^2``, F the importance.

    Parameters that no task has trained yet, such as those of a new head, have no importance. Only F is stored.
    """

    strength: float = 1.0

    importance: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    """F by parameter, of its shape or a single number."""
    _held: list[tuple[nn.Parameter, Tensor, Tensor]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise MetaMapError(f"learner {self.name!r}: strength: expected >= 0, got {self.strength}")

    def begin(self, step: Step) -> None:
        """Copy the parameters that affect the new task."""
        self._held = [
            (parameter, parameter.detach().clone(), self.importance[name])
            for name, parameter in step.mapper.theta(step.experience.embodiment).items()
            if name in self.importance
        ]

    @torch.no_grad()
    def adjust_gradient(self, step: Step) -> None:
        """Add the penalty's gradient, ``strength F (theta - theta before)``."""
        for parameter, before, importance in self._held:
            if parameter.grad is not None:
                parameter.grad.addcmul_(importance, parameter - before, value=self.strength)

    def end(self, step: Step) -> None:
        """Drop the copy and compute the importance of the new theta."""
        self._held = []
        for name, importance in self.measure(step).items():
            self.importance[name] = importance

    @abstractmethod
    def measure(self, step: Step) -> dict[str, Tensor]:
        """Importance after this task, of the parameters that affect it."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Importance by parameter."""
        return {name: np.array(tensor.numpy()) for name, tensor in self.importance.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `MapperLearner`."""
        self.importance = state_by_parameter(arrays, mapper, f"learner {self.name!r}: importance")


@LEARNERS.register("l2")
@dataclass
class L2(_HoldingTheta):
    """L2 regularisation of every trained parameter: F = 1."""

    strength: float = 30.0
    """Weight of the penalty, at least 0."""

    name: ClassVar[str] = "l2"

    def measure(self, step: Step) -> dict[str, Tensor]:
        """A single number for each tensor."""
        return {name: torch.ones(()) for name in step.mapper.theta(step.experience.embodiment)}


@LEARNERS.register("ewc")
@dataclass
class OnlineEWC(_HoldingTheta):
    """Online elastic weight consolidation (Schwarz et al. 2018): F is a running diagonal Fisher matrix.

    ``F = decay F_old + F_task``, with the empirical Fisher of the pair loss, ``F_task = mean_s (dL_s / dtheta)^2`` over
    single windows s of the current task, divided by its mean, so that tasks have equal weight whatever their losses (as
    in the paper). F of parameters that do not affect the task is kept.
    """

    strength: float = 300.0
    """Weight of the penalty, lambda in the paper, at least 0."""
    decay: float = 0.95
    """Decay of F per task, gamma in the paper, in [0, 1]."""
    samples: int = 32
    """Windows for the Fisher matrix, at least 1."""

    name: ClassVar[str] = "ewc"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1 or self.samples < 1:
            raise MetaMapError(f"learner 'ewc': expected decay in [0, 1] and samples >= 1, got {self}")

    def measure(self, step: Step) -> dict[str, Tensor]:
        """Decayed sum of Fisher matrices."""
        theta = step.mapper.theta(step.experience.embodiment)
        fisher = self._fisher(step, theta.values())
        return {
            name: self.decay * self.importance.get(name, torch.zeros_like(new)) + new
            for name, new in zip(theta, fisher, strict=True)
        }

    def _fisher(self, step: Step, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        """Mean squared gradients, divided by the mean over all parameters; zero without any gradient."""
        parameters = list(parameters)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(self.samples):
            gradients = torch.autograd.grad(step.pair_loss(step.new(1)), parameters, allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
        mean = sum(float(total.sum()) for total in sums) / sum(total.numel() for total in sums)
        return [total / mean if mean > 0 else total for total in sums]
