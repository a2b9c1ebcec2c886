"""The context-conditioned policy as a hypernetwork: one policy for all tasks with the input (observation, z)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["ContextHypernetwork"]


@HYPERNETWORKS.register("context")
class ContextHypernetwork(nn.Module):
    """``delta = c``, the same for all tasks, except the first bias, to which ``B [MLP(z), z]`` is added.

    This is equivalent to a policy with the input (observation, z): z is constant over a task, so that its product with
    the first layer's columns is a bias. Contextual policies
    (UP-OSI, Yu et al. 2017; RMA, Kumar et al. 2021; PEARL) are of this kind.
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.trunk = trunk(context_size, hidden)
        (bias,) = (layer for layer in spec.layers if layer.name == "layers.0.bias")
        self.start = bias.offset
        self.common = nn.Parameter(torch.zeros(spec.size))
        self.bias = zero_linear(hidden + context_size, bias.shape[0])

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        moved = self.bias(torch.cat([self.trunk(z), z], dim=-1))
        rest = self.common.numel() - self.start - moved.shape[-1]
        return self.common + nn.functional.pad(moved, (self.start, rest))

    def share_core(self, other: ContextHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: the trunk."""
        self.trunk = other.trunk
