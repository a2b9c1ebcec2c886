"""Optimiser and gradient step of training, streams, calibration and baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from metamap_envs.errors import MetaMapError
from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.training.config import UpdateConfig

__all__ = ["gradient_step", "learning_rate", "new_optimiser"]


def new_optimiser(parameters: Iterable[nn.Parameter], config: UpdateConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a mapper, AdamW."""
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def learning_rate(update: int, config: UpdateConfig) -> float:
    """Return the learning rate of an update, counted from 0; see `metamap_rl.common.schedule.warmup_cosine`."""
    return warmup_cosine(update, config.updates, warmup=config.warmup, highest=config.learning_rate)


def gradient_step(
    loss: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    update: int,
    rate: float,
    clip: float,
    adjust: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Back-propagate a loss, clip the gradient and update the optimiser's parameters.

    Args:
        loss: scalar.
        optimiser: optimiser of the parameters.
        update: number of this update, counted from 0, for the error.
        rate: learning rate.
        clip: maximum norm of the gradient.
        adjust: called between the backward pass and the clipping; may change gradients in place.

    Returns:
        "loss", "gradient_norm" before the clipping, and "learning_rate".

    Raises:
        MetaMapError: the loss or its gradient is not finite; the parameters are unchanged.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # annotated only partly in torch
    adjust()
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    metrics = {"loss": loss.item(), "gradient_norm": norm.item(), "learning_rate": rate}
    if not all(math.isfinite(value) for value in metrics.values()):
        raise MetaMapError(f"training diverged at update {update + 1} ({metrics}): lower learning_rate")
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return metrics
