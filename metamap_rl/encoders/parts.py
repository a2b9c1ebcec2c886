"""Common parts of encoders: embedding of a transition, bounded head, zeros for masked rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["bounded_head", "embedding", "kept_rows"]


def embedding(feature_size: int, hidden: int) -> nn.Sequential:
    """MLP from features [..., F] of one transition to [..., H]; only its first layer depends on F."""
    return nn.Sequential(nn.Linear(feature_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())


def bounded_head(inputs: int, context_size: int, hidden: int) -> nn.Sequential:
    """``LayerNorm(MLP(.))``. The norm has no learned scale, so ``|z_i| <= sqrt(Z)`` for any input."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, context_size),
        nn.LayerNorm(context_size, elementwise_affine=False),
    )


def kept_rows(features: Tensor, mask: Tensor | None) -> Tensor:
    """Features with masked rows set to zero.

    Masked before the first layer, since 0 * NaN in the backward pass would be NaN.
    """
    return features if mask is None else torch.where(mask.unsqueeze(-1), features, 0.0)
