"""A-GEM: projects the new task's gradient so that it does not increase the loss on stored rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.stream.learners.gradient import GradientLearner
from metamap_rl.stream.learners.step import Step

__all__ = ["AveragedGEM", "project"]


@LEARNERS.register("agem")
@dataclass
class AveragedGEM(GradientLearner):
    """Averaged gradient episodic memory (Chaudhry et al. 2019).

    In each gradient step the new task's gradient g is compared with that of a batch of stored rollouts, g_ref; if ``g .
    g_ref < 0`` it becomes ``g - g_ref (g . g_ref) / (g_ref . g_ref)``. Memory is a uniform reservoir of rollouts. The
    optimiser rescales the projected gradient per parameter, so that its step can still increase the loss on old tasks.
    """

    name: ClassVar[str] = "agem"
    retention: ClassVar[str] = "reservoir"

    def adjust_gradient(self, step: Step) -> None:
        """Project the gradient."""
        if not step.old:
            return
        parameters = list(step.mapper.parameters())
        loss = step.pair_loss(step.draw(step.old, step.config.batch_tasks))
        references = torch.autograd.grad(loss, parameters, allow_unused=True)
        projected = project([parameter.grad for parameter in parameters], references)
        for parameter, gradient in zip(parameters, projected, strict=True):
            parameter.grad = gradient


def project(gradients: Sequence[Tensor | None], references: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Remove the component of ``gradients`` opposite to ``references``, both flattened to one vector.

    Args:
        gradients: by parameter; None for a parameter without one, the same as zero.
        references: of the same shapes.

    Returns:
        The unchanged gradients if their inner product with the references is not negative, else gradients whose inner
        product is zero, up to rounding.
    """
    pairs = list(zip(gradients, references, strict=True))
    inner = sum(float((mine * other).sum()) for mine, other in pairs if mine is not None and other is not None)
    square = sum(float(other.square().sum()) for other in references if other is not None)
    if inner >= 0 or square == 0:
        return list(gradients)
    share = inner / square
    return [_minus(mine, other, share) for mine, other in pairs]


def _minus(mine: Tensor | None, other: Tensor | None, share: float) -> Tensor | None:
    if other is None:
        return mine
    return -share * other if mine is None else torch.sub(mine, other, alpha=share)
