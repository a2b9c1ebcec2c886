"""Common parts of hypernetworks."""

from __future__ import annotations

from torch import nn

__all__ = ["trunk", "zero_linear"]


def trunk(inputs: int, hidden: int) -> nn.Sequential:
    """MLP of two hidden layers, [..., inputs] to [..., H]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts at zero, weights and biases.

    Its own gradient is not zero for active hidden units, so the first update moves it.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
