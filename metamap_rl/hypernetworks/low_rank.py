"""Changes of low rank: few numbers per matrix instead of all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy_spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["LowRankHypernetwork"]

RANK = 4


@HYPERNETWORKS.register("low-rank")
class LowRankHypernetwork(nn.Module):
    """``delta W = U(z) V(z) / sqrt(r)`` of rank r = 4 for each matrix (LoRA, Hu et al. 2022); biases change freely.

    V and the biases start at zero; U does not, or no gradient would ever reach either.
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = trunk(context_size, hidden)
        matrices = [layer for layer in spec.layers if len(layer.shape) == 2]
        biases = [layer for layer in spec.layers if len(layer.shape) == 1]
        self.left = nn.ModuleList(nn.Linear(hidden, layer.shape[0] * RANK) for layer in matrices)
        self.right = nn.ModuleList(zero_linear(hidden, layer.shape[1] * RANK) for layer in matrices)
        self.bias = nn.ModuleList(zero_linear(hidden, layer.shape[0]) for layer in biases)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        hidden = self.trunk(z)
        parts: dict[str, Tensor] = {}
        matrices, biases = iter(zip(self.left, self.right, strict=True)), iter(self.bias)
        for layer in self.spec.layers:
            if len(layer.shape) == 1:
                parts[layer.name] = next(biases)(hidden)
                continue
            left, right = next(matrices)
            U = left(hidden).reshape(-1, layer.shape[0], RANK)
            V = right(hidden).reshape(-1, RANK, layer.shape[1])
            parts[layer.name] = torch.bmm(U, V) / RANK**0.5
        return self.spec.join(parts)

    def share_core(self, other: LowRankHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: the trunk; the factors have the policy's sizes."""
        self.trunk = other.trunk
