"""The default encoder: statistics of per-transition embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metamap_rl.encoders.base import ENCODERS
from metamap_rl.encoders.parts import bounded_head, embedding, kept_rows, window_shares

__all__ = ["PoolingEncoder"]

_VARIANCE_FLOOR = 1e-4
"""Added to the variance before its root (hidden units squared): with one transition the variance is zero, where
the root's slope would be infinite."""


@ENCODERS.register("pooling")
class PoolingEncoder(nn.Module):
    """Mean and standard deviation of per-transition embeddings (Deep Sets, Zaheer et al. 2017).

    ``z = LayerNorm(MLP([mean_t h_t, std_t h_t]))`` with ``h_t = MLP(features_t)``.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
        super().__init__()
        self.embed = embedding(feature_size, hidden)
        self.head = bounded_head(2 * hidden, context_size, hidden)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `metamap_rl.encoders.base.Encoder`."""
        z: Tensor = self.head(_mean_and_std(self.embed(kept_rows(features, mask)), mask))
        return z

    def of_windows(self, rows: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        """Encode many windows of one sequence, embedding each row once.

        Args:
            rows: [n, F] float32, standardised.
            bounds: first row and end of each of W windows, none empty.

        Returns:
            z [W, Z]; up to rounding that of each window by itself.
        """
        embedded = self.embed(rows).double()  # variances are differences of two large numbers
        share, _ = window_shares(rows, bounds)
        mean = share @ embedded
        variance = (share @ embedded.square() - mean.square()).clamp(min=0)
        z: Tensor = self.head(torch.cat([mean, (variance + _VARIANCE_FLOOR).sqrt()], dim=-1).to(rows.dtype))
        return z

    def share_core(self, other: PoolingEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the first layer."""
        self.embed[2] = other.embed[2]
        self.head = other.head


def _mean_and_std(embedded: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and standard deviation over unmasked rows: [B, n, H] to [B, 2 H]."""
    mean, variance = _of_all(embedded) if mask is None else _of_kept(embedded, mask)
    return torch.cat([mean, (variance + _VARIANCE_FLOOR).sqrt()], dim=-1)


def _of_all(embedded: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [B, H] without masking, the path of training."""
    count = max(1, embedded.shape[1])
    mean = embedded.sum(dim=1) / count
    return mean, (embedded - mean.unsqueeze(1)).square().sum(dim=1) / count


def _of_kept(embedded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [B, H] of the unmasked rows."""
    kept = mask.unsqueeze(-1)
    count = kept.sum(dim=1).clamp(min=1)
    mean = torch.where(kept, embedded, 0.0).sum(dim=1) / count
    deviation = torch.where(kept, embedded - mean.unsqueeze(1), 0.0)
    return mean, deviation.square().sum(dim=1) / count
