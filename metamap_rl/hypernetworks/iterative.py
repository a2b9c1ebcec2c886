"""Weights written in several steps, each of which sees what the last one wrote."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy_spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["IterativeHypernetwork"]

STEPS = 3


@HYPERNETWORKS.register("iterative")
class IterativeHypernetwork(nn.Module):
    """``delta_k+1 = delta_k + output(trunk([z, read(delta_k)]))``, three steps from delta_0 = 0.

    A learned optimiser unrolled (HyPoGen, Ren et al. 2025, refines weights in the same way, with one block per step;
    here all steps share one).
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(spec.size, hidden)
        self.trunk = trunk(context_size + hidden, hidden)
        self.output = zero_linear(hidden, spec.size)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        delta = z.new_zeros(len(z), self.output.out_features)
        for _ in range(STEPS):
            delta = delta + self.output(self.trunk(torch.cat([z, self.read(delta).tanh()], dim=-1)))
        return delta

    def share_core(self, other: IterativeHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: the trunk."""
        self.trunk = other.trunk
