"""The context-concatenating policy, as a hypernetwork: one policy for all tasks that reads z beside its observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["ContextHypernetwork"]


@HYPERNETWORKS.register("context")
class ContextHypernetwork(nn.Module):
    """``delta = c``, the same for all tasks, but for the first bias, which is moved by ``B [MLP(z), z]``.

    A policy with the input (observation, z) does no more: z is constant over a task, so that its product with the first
    layer's columns is a bias. What is generated here is that policy, for the z of one task; contextual policies
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
