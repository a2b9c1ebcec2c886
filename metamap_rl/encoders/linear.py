"""Linear encoder: a linear function of the mean feature row."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from metamap_rl.encoders.base import ENCODERS
from metamap_rl.encoders.parts import kept_rows

__all__ = ["LinearEncoder"]


@ENCODERS.register("linear")
class LinearEncoder(nn.Module):
    """``z = LayerNorm(V (W mean_t features_t + b) + c)``, of rank H.

    It only learns directions, so it treats tasks far from the training tasks like those: with features that hold
    products of inputs and targets, z contains the statistics of least squares or class means.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(feature_size, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, context_size), nn.LayerNorm(context_size, elementwise_affine=False))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `metamap_rl.encoders.base.Encoder`."""
        count: int | Tensor = max(1, features.shape[1])
        if mask is not None:
            count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        z: Tensor = self.head(self.read(kept_rows(features, mask).sum(dim=1) / count))
        return z

    def share_core(self, other: LinearEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the first layer."""
        self.head = other.head
