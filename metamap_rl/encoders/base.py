"""Encoders: the transitions D of one task to a bounded context z.

Encoders ignore masked rows and are deterministic: the same D gives the same z in training and at
deployment, so no dropout and no batch statistics. To add one, write a module in `metamap_rl.encoders` with a class that
has the constructor and the call of :class:`Encoder`, and register it:

    @ENCODERS.register("my-encoder")
    class MyEncoder(nn.Module): ...

The tests run over the registry.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import Tensor

from metamap_rl.common.registry import Registry

__all__ = ["ENCODERS", "Encoder", "EncoderFactory"]


class Encoder(Protocol):
    """Protocol of encoders; implementations are ``nn.Module`` classes."""

    ordered: ClassVar[bool]
    """Whether z depends on the order of the transitions; False for encoders of sets."""

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode a batch of sets, or of sequences.

        Args:
            features: [B, n, F] float32, standardised, in the order of collection. Masked rows may hold any value, NaN
                included.
            mask: [B, n] bool, True for the transitions to use; None uses all.

        Returns:
            z [B, Z], bounded. Without any transition z is finite and arbitrary; the mapper then returns phi_0.
        """
        ...

    def share_core(self, other: Any) -> None:
        """Share (not copy) ``other``'s modules that do not depend on F.

        Args:
            other: an encoder of the same class, context size and width; F may differ.
        """
        ...


class EncoderFactory(Protocol):
    """Constructor of an encoder, from the sizes F and Z and the width of hidden layers."""

    ordered: ClassVar[bool]

    def __call__(self, feature_size: int, context_size: int, hidden: int) -> Encoder:
        """Build one. Parameters are drawn from torch's current generator, which the mapper seeds."""
        ...


ENCODERS: Registry[EncoderFactory] = Registry("encoder", removed={"pooling-gru": "pooling"})
