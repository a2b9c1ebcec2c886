"""Fully generated weights: one output for each weight."""

from __future__ import annotations

from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["ResidualHypernetwork"]


@HYPERNETWORKS.register("residual")
class ResidualHypernetwork(nn.Module):
    """An MLP of two hidden layers with P outputs, whose output layer starts at zero (Ha et al. 2017, full)."""

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.trunk = trunk(context_size, hidden)
        self.output = zero_linear(hidden, spec.size)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        delta: Tensor = self.output(self.trunk(z))
        return delta

    def share_core(self, other: ResidualHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: all but the output layer."""
        self.trunk = other.trunk
