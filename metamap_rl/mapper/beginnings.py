"""Novelty of prefixes of D: detects what a mean over all of D hides, such as a reward whose scale drifts.

At each calibrated length up to that of D, three statistics of the first transitions are checked besides the mean
surprise of each number: each half separately, the reward of each fifth separately, and the context z, which may be out
of distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["SHORTEST", "VIEWS", "Beginnings", "usual_contexts", "views"]

Floats = NDArray[np.float32]

SHORTEST = 5
"""Transitions of the shortest prefix that is checked, so that fifths are not empty."""

VIEWS = ("halves", "fifths", "context")
"""Statistics of a prefix, besides the mean surprise of each number."""

_RIDGE = 1e-3  # added to the variances of z, which is of order 1


def usual_contexts(contexts: Floats) -> tuple[Floats, Floats]:
    """Mean [Z] and inverse covariance [Z, Z] of the contexts of in-distribution D [T, Z]."""
    wide = contexts.astype(np.float64)
    covariance = np.atleast_2d(np.cov(wide.T)) + _RIDGE * np.eye(wide.shape[1])
    return wide.mean(axis=0).astype(np.float32), np.linalg.inv(covariance).astype(np.float32)


def views(surprise: Floats, outcome_size: int, context: Floats, mean: Floats, precision: Floats) -> dict[str, Floats]:
    """Statistics of a prefix, by view.

    Args:
        surprise: surprise of its transitions [..., k, S]; the last T of the S numbers are reward and change.
        outcome_size: T.
        context: their z [..., Z].
        mean: mean of in-distribution contexts [Z].
        precision: their inverse covariance [Z, Z].

    Returns:
        "halves" [..., 2 T]: mean surprise of reward and change in the first and the second half; "fifths" [..., 5]:
        mean surprise of the reward in each fifth; "context" [..., 1]: log Mahalanobis distance of z.
    """
    own = surprise[..., -outcome_size:]
    halves = [half.mean(axis=-2) for half in np.array_split(own, 2, axis=-2)]
    fifths = [fifth.mean(axis=-2) for fifth in np.array_split(own[..., :1], 5, axis=-2)]
    away = (context - mean).astype(np.float64)
    squared = np.einsum("...i,ij,...j->...", away, precision.astype(np.float64), away)
    return {
        "halves": np.concatenate(halves, axis=-1),
        "fifths": np.concatenate(fifths, axis=-1),
        "context": (0.5 * np.log(np.maximum(squared, 1e-12)))[..., None].astype(np.float32),
    }


@dataclass(frozen=True, eq=False)
class Beginnings:
    """Reference statistics of the first k transitions of in-distribution D, for K calibrated lengths k.

    Raises:
        MetaMapError: a standard deviation or limit is not above 0.
    """

    lengths: tuple[int, ...]
    """The K lengths, ascending."""
    mean: Floats
    """Means of z [K, Z]."""
    precision: Floats
    """Inverse covariances of z [K, Z, Z]."""
    typical: Mapping[str, Floats]
    """Mean of each view's statistics [K, N], N = 2 T, 5 and 1."""
    spread: Mapping[str, Floats]
    """Standard deviations of each view's statistics [K, N], positive."""
    limit: Floats
    """Largest deviation of each view from its mean, in standard deviations, of an in-distribution prefix [K, 3]."""
    joint: Floats
    """Factor by which the views of all prefixes up to this one may exceed their limits in an in-distribution D [K],
    positive.
    """

    def __post_init__(self) -> None:
        arrays = {**{f"{view}.spread": self.spread[view] for view in VIEWS}, "limit": self.limit, "joint": self.joint}
        for name, array in arrays.items():
            if not (array > 0).all():
                raise MetaMapError(f"self-check: beginnings: {name}: expected numbers above 0")

    def novelty(self, at: int, surprise: Floats, context: Floats) -> NDArray[np.float64]:
        """Largest deviation of any view of one prefix from its mean, in units of its limit, [...].

        Args:
            at: index of the length.
            surprise: surprise of the prefix's transitions [..., k, S].
            context: their z [..., Z].
        """
        found = views(surprise, self.typical["halves"].shape[-1] // 2, context, self.mean[at], self.precision[at])
        largest: NDArray[np.float64] = (self.deviations(at, found) / self.limit[at]).max(axis=-1)
        return largest

    def deviations(self, at: int, found: Mapping[str, Floats]) -> NDArray[np.float64]:
        """Largest deviation of each view's statistics, in standard deviations, [..., 3].

        For the distance of z only deviations upwards count.
        """
        largest = []
        for view in VIEWS:
            away = (found[view].astype(np.float64) - self.typical[view][at]) / self.spread[view][at]
            largest.append((away if view == "context" else np.abs(away)).max(axis=-1))
        return np.stack(largest, axis=-1)

    # ---------------------------------------------------------------------------------------------- storage

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; inverse of :meth:`from_arrays`."""
        views = {f"{view}.{name}": getattr(self, name)[view] for view in VIEWS for name in ("typical", "spread")}
        return {"mean": self.mean, "precision": self.precision, "limit": self.limit, "joint": self.joint, **views}

    @staticmethod
    def shapes(lengths: int, outcome_size: int, context_size: int) -> dict[str, tuple[int, ...]]:
        """Return the expected shape of each array of :meth:`arrays`."""
        sizes = {"halves": 2 * outcome_size, "fifths": 5, "context": 1}
        return {
            "mean": (lengths, context_size),
            "precision": (lengths, context_size, context_size),
            "limit": (lengths, len(VIEWS)),
            "joint": (lengths,),
            **{f"{view}.{name}": (lengths, size) for view, size in sizes.items() for name in ("typical", "spread")},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], lengths: Sequence[int]) -> Beginnings:
        """Inverse of :meth:`arrays`, for arrays of the shapes of :meth:`shapes`."""
        return cls(
            tuple(lengths),
            arrays["mean"],
            arrays["precision"],
            typical={view: arrays[f"{view}.typical"] for view in VIEWS},
            spread={view: arrays[f"{view}.spread"] for view in VIEWS},
            limit=arrays["limit"],
            joint=arrays["joint"],
        )
