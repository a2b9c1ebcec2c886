"""Gains on the base policy's units, and additions to its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.hypernetworks.base import HYPERNETWORKS
from metamap_rl.hypernetworks.parts import trunk, zero_linear

__all__ = ["ModulationHypernetwork"]


@HYPERNETWORKS.register("modulation")
class ModulationHypernetwork(nn.Module):
    """``W = diag(1 + a(z)) (W_0 + A(z)) diag(1 + b(z))``, a bias changed likewise by ``1 + a(z)``.

    The gains (FiLM, Perez et al. 2018, on the weights) have one number per unit, so the effect of one inverted, weaker
    actuator is one row of the output layer times one number, independent of the other actuators. Their inputs are z
    and the trunk's hidden units: effects linear in z should compose in unseen combinations of tasks.
    All of a, b and A start at zero.
    """

    def __init__(self, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = trunk(context_size, hidden)
        self.matrices = [layer for layer in spec.layers if len(layer.shape) == 2]
        self.rows = zero_linear(hidden + context_size, sum(layer.shape[0] for layer in self.matrices))
        self.columns = zero_linear(hidden + context_size, sum(layer.shape[1] for layer in self.matrices))
        self.addition = zero_linear(hidden, spec.size)

    def forward(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`."""
        hidden = self.trunk(z)
        sums = self.spec.split(phi_0 + self.addition(hidden))
        seen = torch.cat([hidden, z], dim=-1)
        rows = (1 + self.rows(seen)).split([layer.shape[0] for layer in self.matrices], dim=-1)
        columns = (1 + self.columns(seen)).split([layer.shape[1] for layer in self.matrices], dim=-1)
        changed: dict[str, Tensor] = {}
        for index, layer in enumerate(self.matrices):
            bias = layer.name.replace("weight", "bias")
            changed[layer.name] = rows[index].unsqueeze(-1) * sums[layer.name] * columns[index].unsqueeze(-2)
            changed[bias] = rows[index] * sums[bias]
        return self.spec.join(changed) - phi_0

    def share_core(self, other: ModulationHypernetwork) -> None:
        """See `metamap_rl.hypernetworks.base.Hypernetwork`: the trunk."""
        self.trunk = other.trunk
