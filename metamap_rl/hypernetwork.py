"""Hypernetworks: the context z of a task to a change of the base policy's weights.

To add one, write a class with the constructor and the call of :class:`Hypernetwork` and register it with
``@HYPERNETWORKS.register("name")``. It must answer zero before training: the untrained mapper *is* phi_0.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from metamap_rl.registry import Registry

__all__ = ["HYPERNETWORKS", "Hypernetwork", "HypernetworkFactory", "ResidualHypernetwork"]


class Hypernetwork(Protocol):
    """What the mapper needs of a hypernetwork; implementations are ``nn.Module`` classes."""

    def __call__(self, z: Tensor) -> Tensor:
        """Map z [B, Z] to delta [B, P], in units of the mapper's per-weight scale; zero before training."""
        ...

    def share_core(self, other: Any) -> None:
        """Use ``other``'s own modules, shared and not copied, for everything that does not depend on P.

        Args:
            other: a hypernetwork of the same class, context size and width, perhaps of another P.
        """
        ...


class HypernetworkFactory(Protocol):
    """How the mapper builds a hypernetwork: the sizes Z, P and the width of hidden layers."""

    def __call__(self, context_size: int, weight_count: int, hidden: int) -> Hypernetwork:
        """Build it; parameters are drawn from torch's current generator, which the mapper seeds."""
        ...


HYPERNETWORKS: Registry[HypernetworkFactory] = Registry("hypernetwork")


@HYPERNETWORKS.register("residual")
class ResidualHypernetwork(nn.Module):
    """An MLP of two hidden layers whose output layer starts at zero, weights and biases.

    Only the output layer starts at zero: its own gradient is that of a linear layer on live hidden units, so
    training leaves zero at the first update.
    """

    def __init__(self, context_size: int, weight_count: int, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(context_size, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.output = nn.Linear(hidden, weight_count)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, z: Tensor) -> Tensor:
        """See :class:`Hypernetwork`."""
        delta: Tensor = self.output(self.trunk(z))
        return delta

    def share_core(self, other: ResidualHypernetwork) -> None:
        """See :class:`Hypernetwork`: all but the output layer."""
        self.trunk = other.trunk
