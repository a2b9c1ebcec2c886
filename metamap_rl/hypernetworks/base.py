"""Hypernetworks: the context z of a task to a change of the base policy's weights.

To add one, write a module in `metamap_rl.hypernetworks` with a class that has the constructor and the call of
:class:`Hypernetwork`, and register it with ``@HYPERNETWORKS.register("name")``. It must return zero before training:
the untrained mapper returns phi_0.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.common.registry import Registry

__all__ = ["HYPERNETWORKS", "Hypernetwork", "HypernetworkFactory"]


class Hypernetwork(Protocol):
    """Protocol of hypernetworks; implementations are ``nn.Module`` classes."""

    def __call__(self, z: Tensor, phi_0: Tensor) -> Tensor:
        """Map a context to a change of weights, all in units of the mapper's per-weight scale.

        Args:
            z: contexts [B, Z].
            phi_0: weights of the base policy [P].

        Returns:
            delta [B, P]; exactly zero before training.
        """
        ...

    def share_core(self, other: Any) -> None:
        """Share (not copy) ``other``'s modules that do not depend on P.

        Args:
            other: a hypernetwork of the same class, context size and width; the shape of the policy may differ.
        """
        ...


class HypernetworkFactory(Protocol):
    """Constructor of a hypernetwork, from the size Z, the generated network's shape and the width of hidden layers."""

    def __call__(self, context_size: int, spec: PolicySpec, hidden: int) -> Hypernetwork:
        """Build one. Parameters are drawn from torch's current generator, which the mapper seeds."""
        ...


HYPERNETWORKS: Registry[HypernetworkFactory] = Registry(
    "hypernetwork", removed={"low-rank": "modulation", "iterative": "residual"}
)
