"""What encoders share: the embedding of a transition, the head that bounds z, and statistics of rows that count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VARIANCE_FLOOR", "bounded_head", "embedding", "kept_rows", "mean_and_std"]

VARIANCE_FLOOR = 1e-4
"""Added to the variance before its root (hidden units squared): with one transition the variance is zero, where
the root's slope would be infinite."""


def embedding(feature_size: int, hidden: int) -> nn.Sequential:
    """Features [..., F] of one transition to [..., H]; only its first layer depends on F."""
    return nn.Sequential(nn.Linear(feature_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())


def bounded_head(inputs: int, context_size: int, hidden: int) -> nn.Sequential:
    """``LayerNorm(MLP(.))``. The norm has no learned scale, so every ``|z_i| <= sqrt(Z)`` whatever the input."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, context_size),
        nn.LayerNorm(context_size, elementwise_affine=False),
    )


def kept_rows(features: Tensor, mask: Tensor | None) -> Tensor:
    """Features with zeros where the mask hides them.

    Hidden before the first layer, not only after it: 0 * NaN in the backward pass would be NaN.
    """
    return features if mask is None else torch.where(mask.unsqueeze(-1), features, 0.0)


def mean_and_std(embedded: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and standard deviation over the rows that count: [B, n, H] to [B, 2 H]."""
    mean, variance = _of_all(embedded) if mask is None else _of_kept(embedded, mask)
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=-1)


def _of_all(embedded: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [B, H]; training takes this path, which spares the masking."""
    count = max(1, embedded.shape[1])
    mean = embedded.sum(dim=1) / count
    return mean, (embedded - mean.unsqueeze(1)).square().sum(dim=1) / count


def _of_kept(embedded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [B, H] of the rows that count."""
    kept = mask.unsqueeze(-1)
    count = kept.sum(dim=1).clamp(min=1)
    mean = torch.where(kept, embedded, 0.0).sum(dim=1) / count
    deviation = torch.where(kept, embedded - mean.unsqueeze(1), 0.0)
    return mean, deviation.square().sum(dim=1) / count
