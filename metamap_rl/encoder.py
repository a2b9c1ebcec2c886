"""Encoders: the transitions D of one task to a bounded context z.

An encoder sees a set: the order of the transitions must not matter, and neither must what stands in masked
rows. It is deterministic: the same D gives the same z in training and in use, so no dropout and no batch
statistics. To add one, write a class with the constructor and the call of :class:`Encoder` and register it:

    @ENCODERS.register("my-encoder")
    class MyEncoder(nn.Module): ...

The tests run over the registry.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from metamap_rl.registry import Registry

__all__ = ["ENCODERS", "Encoder", "EncoderFactory", "PoolingEncoder"]

VARIANCE_FLOOR = 1e-4
"""Added to the variance before its root (hidden units squared): with one transition the variance is zero, where
the root's slope would be infinite."""


class Encoder(Protocol):
    """What the mapper needs of an encoder; implementations are ``nn.Module`` classes."""

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode a batch of sets.

        Args:
            features: [B, n, F] float32, standardised. Masked rows may hold anything, NaN included.
            mask: [B, n] bool, True where the transition counts; all of them count if there is none.

        Returns:
            z [B, Z], bounded, the same to float error for any order of the transitions.
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

    def __call__(self, feature_size: int, context_size: int, hidden: int) -> Encoder:
        """Build it; parameters are drawn from torch's current generator, which the mapper seeds."""
        ...


ENCODERS: Registry[EncoderFactory] = Registry("encoder")


@ENCODERS.register("pooling")
class PoolingEncoder(nn.Module):
    """Mean and standard deviation of per-transition embeddings (Deep Sets, Zaheer et al. 2017).

    ``z = LayerNorm(MLP([mean_t h_t, std_t h_t]))`` with ``h_t = MLP(features_t)``. The norm has no learned
    scale, so every ``|z_i| <= sqrt(Z)`` whatever the input. A row with no transition at all gets a finite,
    meaningless z; the mapper answers phi_0 there.
    """

    def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(feature_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, context_size),
            nn.LayerNorm(context_size, elementwise_affine=False),
        )

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :class:`Encoder`."""
        mean, variance = self._all_rows(features) if mask is None else self._kept_rows(features, mask)
        z: Tensor = self.head(torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=-1))
        return z

    def share_core(self, other: PoolingEncoder) -> None:
        """See :class:`Encoder`: all but the first layer."""
        self.embed[2] = other.embed[2]
        self.head = other.head

    def _all_rows(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance [B, H] of the embeddings; training takes this path, which spares the masking."""
        embedded = self.embed(features)
        count = max(1, features.shape[1])
        mean = embedded.sum(dim=1) / count
        return mean, (embedded - mean.unsqueeze(1)).square().sum(dim=1) / count

    def _kept_rows(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance [B, H] of the embeddings of the rows that count."""
        kept = mask.unsqueeze(-1)
        # Hidden before the first layer, not only after it: 0 * NaN in the backward pass would be NaN.
        embedded = self.embed(torch.where(kept, features, 0.0))
        count = kept.sum(dim=1).clamp(min=1)
        mean = torch.where(kept, embedded, 0.0).sum(dim=1) / count
        deviation = torch.where(kept, embedded - mean.unsqueeze(1), 0.0)
        return mean, deviation.square().sum(dim=1) / count
