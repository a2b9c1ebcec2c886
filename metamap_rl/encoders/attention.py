"""Pooling of transitions by attention."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metamap_rl.encoders.base import ENCODERS
from metamap_rl.encoders.parts import bounded_head, embedding, kept_rows

__all__ = ["AttentionEncoder"]

QUERIES = 4
"""Learned queries; each pools the set in its own way."""


@ENCODERS.register("attention")
class AttentionEncoder(nn.Module):
    """Pooling by attention with learned queries (Set Transformer's PMA, Lee et al. 2019, one head per query).

    Query q weighs transition t by ``softmax_t(<k_t, q> / sqrt(H))``; ``z = LayerNorm(MLP([sum_t w_qt v_t]_q))``.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
        super().__init__()
        self.embed = embedding(feature_size, hidden)
        self.queries = nn.Linear(hidden, QUERIES)
        self.values = nn.Linear(hidden, hidden)
        self.head = bounded_head(QUERIES * hidden, context_size, hidden)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `metamap_rl.encoders.base.Encoder`."""
        embedded = self.embed(kept_rows(features, mask))
        scores = self.queries(embedded)
        if mask is not None:  # a finite number, so that a set without a row that counts stays finite as well
            scores = scores.masked_fill(~mask.unsqueeze(-1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1)
        values = self.values(embedded)
        if mask is not None:
            values = torch.where(mask.unsqueeze(-1), values, 0.0)
        pooled = torch.einsum("bnq,bnh->bqh", weights, values)
        z: Tensor = self.head(pooled.flatten(1))
        return z

    def share_core(self, other: AttentionEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the first layer."""
        self.embed[2] = other.embed[2]
        self.queries, self.values, self.head = other.queries, other.values, other.head
