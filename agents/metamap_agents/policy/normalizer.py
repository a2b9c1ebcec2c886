"""Normalisation of observations with frozen statistics, shared by all policies of a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["Normalizer", "ObservationNormalizer"]


class Normalizer(Protocol):
    """An affine map of raw observations to the inputs of policies."""

    def apply(self, observations: ArrayLike) -> NDArray[Any]:
        """Normalise observations [..., O]; float32 stays float32, all else becomes float64."""

    def fold(self, spec: PolicySpec, phi: NDArray[Any]) -> NDArray[Any]:
        """Return weights [..., P] that give the same actions on raw observations as ``phi`` on normalised ones."""


@dataclass(frozen=True, eq=False)
class ObservationNormalizer:
    """``(observation - mean) / std`` without clipping, so that it folds into the first layer of a policy.

    Attributes:
        mean: [O], kept as read-only float64.
        std: [O], positive, kept as read-only float64. Callers put a floor under components that hardly vary.

    Raises:
        MetaMapError: other shapes, a value that is not finite, or a std that is not positive.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise MetaMapError(f"normalizer: {name}: expected finite numbers of shape (O,), got {values!r}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.mean.shape != self.std.shape:
            raise MetaMapError(f"normalizer: mean has shape {self.mean.shape}, std has {self.std.shape}")
        if not (self.std > 0).all():
            raise MetaMapError(f"normalizer: std: expected positive numbers, got {self.std.min()}")

    @classmethod
    def identity(cls, observation_size: int) -> ObservationNormalizer:
        """Return the identity: mean 0, std 1."""
        return cls(np.zeros(observation_size), np.ones(observation_size))

    @property
    def observation_size(self) -> int:
        """O."""
        return int(self.mean.size)

    def apply(self, observations: ArrayLike) -> NDArray[Any]:
        """Normalise observations [..., O]. Computed in float64; float32 stays float32, all else becomes float64.

        Raises:
            MetaMapError: the last axis is not of size O.
        """
        raw = np.asarray(observations)
        if raw.ndim == 0 or raw.shape[-1] != self.mean.size:
            raise MetaMapError(f"observations: expected shape (..., {self.mean.size}), got {raw.shape}")
        normalised = (raw - self.mean) / self.std
        return normalised.astype(np.float32) if raw.dtype == np.float32 else normalised

    def fold(self, spec: PolicySpec, phi: NDArray[Any]) -> NDArray[Any]:
        """Return weights that give the same actions on raw observations as ``phi`` on normalised ones.

        First layer: W/sigma and b - (W/sigma) mu, computed in float64; the other layers are unchanged.

        Args:
            spec: the policy's shape.
            phi: [..., P], not changed.

        Returns:
            [..., P], of the type of ``phi``.

        Raises:
            MetaMapError: the sizes of ``spec``, ``phi`` and the normaliser differ.
        """
        if spec.observation_size != self.mean.size:
            raise MetaMapError(f"normalizer: expected observation size {spec.observation_size}, got {self.mean.size}")
        phi = np.asarray(phi)
        folded = np.array(phi, dtype=np.float64, order="C")
        parts = spec.split(folded)  # views: writing into them writes into `folded`
        parts["layers.0.weight"] /= self.std
        # Each row by itself: a product of matrices may sum in an order that depends on how many policies there are.
        parts["layers.0.bias"] -= (parts["layers.0.weight"] * self.mean).sum(axis=-1)
        return folded.astype(phi.dtype)

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """``normalizer.mean`` and ``normalizer.std``, to be stored beside the weights they belong to."""
        return {"normalizer.mean": self.mean, "normalizer.std": self.std}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ObservationNormalizer:
        """Inverse of :meth:`to_arrays`; other names in ``arrays`` are ignored.

        Raises:
            MetaMapError: one of the two is missing, or is not valid.
        """
        for name in ("normalizer.mean", "normalizer.std"):
            if name not in arrays:
                raise MetaMapError(f"{name}: expected an array of shape (O,), there are {sorted(arrays)}")
        return cls(arrays["normalizer.mean"], arrays["normalizer.std"])
