"""The default encoder: statistics of per-transition embeddings."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from metamap_rl.encoders.base import ENCODERS
from metamap_rl.encoders.parts import bounded_head, embedding, kept_rows, mean_and_std

__all__ = ["PoolingEncoder"]


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
        z: Tensor = self.head(mean_and_std(self.embed(kept_rows(features, mask)), mask))
        return z

    def share_core(self, other: PoolingEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the first layer."""
        self.embed[2] = other.embed[2]
        self.head = other.head
