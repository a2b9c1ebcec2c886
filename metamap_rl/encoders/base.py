"""Encoders: the transitions D of one task to a bounded context z.

An encoder must not care what stands in masked rows. It is deterministic: the same D gives the same z in training and
in use, so no dropout and no batch statistics. To add one, write a module in `metamap_rl.encoders` with a class that has
the constructor and the call of :class:`Encoder`, and register it:

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
    """What the mapper needs of an encoder; implementations are ``nn.Module`` classes."""

    ordered: ClassVar[bool]
    """Whether the order of the transitions counts. An encoder of sets (False) gives one z for any order."""

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode a batch of sets, or of sequences.

        Args:
            features: [B, n, F] float32, standardised, in the order of collection. Masked rows may hold anything, NaN
                included.
            mask: [B, n] bool, True where the transition counts; all of them count if there is none.

        Returns:
            z [B, Z], bounded. A row with no transition at all gets a finite, meaningless z; the mapper answers phi_0.
        """
        ...

    def share_core(self, other: Any) -> None:
        """Use ``other``'s own modules, shared and not copied, for everything that does not depend on F.

        Args:
            other: an encoder of the same class, context size and width, perhaps of another F.
        """
        ...


class EncoderFactory(Protocol):
    """How the mapper builds an encoder: the sizes F, Z and the width of hidden layers."""

    ordered: ClassVar[bool]

    def __call__(self, feature_size: int, context_size: int, hidden: int) -> Encoder:
        """Build it; parameters are drawn from torch's current generator, which the mapper seeds."""
        ...


ENCODERS: Registry[EncoderFactory] = Registry("encoder", removed={"pooling-gru": "pooling"})
