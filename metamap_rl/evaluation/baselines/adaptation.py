"""Adaptation by gradient steps, of many networks at once: what MAML and Reptile do with D."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["TASK_LOSSES", "TaskLoss", "cross_entropy", "descend", "squared_error"]

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs [B, K, A] and targets [B, K, A] to one loss per task [B]."""


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
    """Take full-batch gradient steps on every task's own points, each from its own weights.

    Args:
        spec: shape of the networks.
        phi: [B, P], where each task starts.
        inputs: [B, K, I].
        targets: [B, K, A], or whatever else the loss takes as targets, one row for each input.
        loss: of one task; tasks do not mix, so one backward pass gives the gradients of all of them.
        rate: step size, above 0; or one for each weight [P], of any sign.
        steps: how many, 0 or more.
        create_graph: whether gradients flow through the steps, second derivatives included. Otherwise the result
            holds no graph.

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
