"""Adaptation of many networks at once by gradient steps on D, for MAML and Reptile."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["TASK_LOSSES", "TaskLoss", "cross_entropy", "descend", "squared_error"]

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps outputs [B, K, A] and targets [B, K, A] to one loss per task [B]."""


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each task [B]."""
    return (outputs - targets).square().mean(dim=(1, 2))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of each task [B]; outputs are logits, targets probabilities (one-hot)."""
    return -(targets * outputs.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)


TASK_LOSSES: dict[str, TaskLoss] = {"squared-error": squared_error, "cross-entropy": cross_entropy}


def descend(
    spec: PolicySpec,
    phi: Tensor,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: TaskLoss,
    rate: float | Tensor,
    steps: int,
    create_graph: bool = False,
) -> Tensor:
    """Take full-batch gradient steps on the points of each task, from its own weights.

    Args:
        spec: architecture of the networks.
        phi: initial weights of each task [B, P].
        inputs: [B, K, I].
        targets: [B, K, A], or other targets of the loss, one row for each input.
        loss: loss of each task; tasks are independent, so one backward pass gives all gradients.
        rate: step size, above 0; or one per weight [P], of any sign.
        steps: number of gradient steps, 0 or more.
        create_graph: whether the result is differentiable through the steps, with second derivatives.

    Returns:
        [B, P].
    """
    if steps < 0 or (isinstance(rate, float | int) and rate <= 0):
        raise MetaMapError(f"gradient steps: expected steps >= 0 and a rate > 0, got {steps} and {rate}")
    with torch.enable_grad():
        if not create_graph:
            phi = phi.detach().requires_grad_()
        for _ in range(steps):
            total = loss(forward(spec, phi, inputs), targets).sum()
            (gradient,) = torch.autograd.grad(total, phi, create_graph=create_graph)
            phi = phi - rate * gradient if create_graph else (phi - rate * gradient).detach().requires_grad_()
    return phi if create_graph else phi.detach()
