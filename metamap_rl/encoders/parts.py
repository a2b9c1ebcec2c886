"""Common parts of encoders: embedding of a transition, bounded head, zeros for masked rows, windows of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metamap_rl.encoders.base import Encoder

__all__ = ["bounded_head", "embedding", "kept_rows", "window_shares", "windows_of"]


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


def window_shares(rows: Tensor, bounds: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Share of each row [n, F] in the means of windows [W, n], and the windows' numbers of rows [W], float64."""
    share = rows.new_zeros(len(bounds), len(rows), dtype=torch.float64)
    for window, (start, end) in enumerate(bounds):
        share[window, start:end] = 1.0 / (end - start)
    count = torch.tensor([float(end - start) for start, end in bounds], dtype=torch.float64, device=rows.device)
    return share, count


def windows_of(encoder: Encoder, rows: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
    """Contexts [W, Z] of windows of a sequence of standardised rows [n, F], given by first row and end, none empty."""
    found = getattr(encoder, "of_windows", None)
    if found is not None:
        z: Tensor = found(rows, bounds)
        return z
    return torch.cat([encoder(rows[None, start:end], None) for start, end in bounds])
