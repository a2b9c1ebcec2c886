"""Weights linear in z, plus an MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["SkipHypernetwork"]


@HYPERNETWORKS.register("skip")
class SkipHypernetwork(nn.Module):
    """The residual hypernetwork whose output layer also reads z itself: ``delta = A MLP(z) + B z + c``.

    The linear part extrapolates outside the training tasks, where an MLP's hidden units do not.
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.trunk = trunk(context_size, hidden)
        self.output = zero_linear(hidden + context_size, spec.size)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        delta: Tensor = self.output(torch.cat([self.trunk(z), z], dim=-1))
        return delta

    def share_core(self, other: SkipHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: the trunk."""
        self.trunk = other.trunk
