"""An encoder of D as a sequence, as in RMA."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metamap_rl.encoders.base import ENCODERS
from metamap_rl.encoders.parts import bounded_head, embedding, kept_rows

__all__ = ["RecurrentEncoder"]


@ENCODERS.register("gru")
class RecurrentEncoder(nn.Module):
    """``z = LayerNorm(MLP(h_n))`` with ``h`` the state of a GRU over the transitions in their order.

    Masked rows are removed from the sequence.
    """

    ordered: ClassVar[bool] = True

    def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
        super().__init__()
        self.embed = embedding(feature_size, hidden)
        self.recurrent = nn.GRU(hidden, hidden, batch_first=True)
        self.head = bounded_head(hidden, context_size, hidden)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `metamap_rl.encoders.base.Encoder`."""
        z: Tensor = self.head(self._last(self.embed(kept_rows(features, mask)), mask))
        return z

    def _last(self, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """State [B, H] after the last unmasked row; zeros without one."""
        if embedded.shape[1] == 0:
            return embedded.new_zeros(embedded.shape[0], self.recurrent.hidden_size)
        if mask is None:
            last: Tensor = self.recurrent(embedded)[1][0]
            return last
        # Rows that count move to the front, in their order; what follows them is not looked at.
        order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True).unsqueeze(-1)
        states = self.recurrent(embedded.gather(1, order.expand_as(embedded)))[0]
        count = mask.sum(dim=1)
        row = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1])
        return torch.where((count > 0).unsqueeze(-1), states.gather(1, row).squeeze(1), 0.0)

    def share_core(self, other: RecurrentEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the first layer."""
        self.embed[2] = other.embed[2]
        self.recurrent, self.head = other.recurrent, other.head
