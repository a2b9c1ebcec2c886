"""One small network that generates the weights in chunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["ChunkedHypernetwork"]

CHUNK = 256
"""Weights in a piece."""
EMBEDDING = 32
"""Size of a piece's embedding."""


@HYPERNETWORKS.register("chunked")
class ChunkedHypernetwork(nn.Module):
    """Piece c of the weights is ``MLP([z, e_c])`` with a learned embedding e_c (von Oswald et al. 2020, chunked).

    The network grows with P only by an embedding of 32 numbers for each 256 weights.
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.size = spec.size
        self.pieces = nn.Parameter(torch.randn(-(-spec.size // CHUNK), EMBEDDING))
        self.trunk = trunk(context_size + EMBEDDING, hidden)
        self.output = zero_linear(hidden, CHUNK)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        count = len(self.pieces)
        asked = torch.cat(
            [z.unsqueeze(1).expand(-1, count, -1), self.pieces.unsqueeze(0).expand(len(z), -1, -1)], dim=-1
        )
        written: Tensor = self.output(self.trunk(asked)).flatten(1)
        return written[:, : self.size]

    def share_core(self, other: ChunkedHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: all but the embeddings of the pieces."""
        self.trunk, self.output = other.trunk, other.output
