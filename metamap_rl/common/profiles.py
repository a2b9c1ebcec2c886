"""Comparisons of runs over seeds and tasks: probability of improvement, performance profile (Agarwal et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.common.resampling import tallies
from metamap_rl.common.statistics import Interval, check_draws, finite

__all__ = ["Profile", "performance_profile", "probability_of_improvement"]


def probability_of_improvement(
    scores: ArrayLike,
    others: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return P(a run of ``scores`` is better than a run of ``others`` on the same task), counting a tie as one half.

    The mean over tasks of the share of pairs of seeds that the first one wins (Agarwal et al. 2021); the interval is
    a crossed percentile bootstrap: tasks are drawn anew, and the seeds of both.

    Args:
        scores: [S, T].
        others: [S', T], of the same tasks.
        generator: source of every draw.
        level: nominal coverage.
        resamples: number of bootstrap resamples, at least 1.

    Raises:
        MetaMapError: other shapes, values that are not finite, a level outside (0, 1), or no resamples.
    """
    ours, theirs = finite(scores), finite(others)
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
        raise MetaMapError(f"scores: expected [seeds, tasks] of the same tasks, got {ours.shape} and {theirs.shape}")
    check_draws(level, resamples)
    difference = ours[:, None] - theirs[None]
    wins = (difference > 0) + 0.5 * (difference == 0)  # [S, S', T]
    tasks = wins.shape[2]
    of_tasks, of_ours, of_theirs = (tallies(resamples, size, generator) for size in (tasks, len(ours), len(theirs)))
    means = np.einsum("rt,ri,rj,ijt->r", of_tasks, of_ours, of_theirs, wins, optimize=True) / wins.size
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(wins.mean()), float(low), float(high), level, "seeds and tasks", len(ours), tasks)


@dataclass(frozen=True)
class Profile:
    """A performance profile (Agarwal et al. 2021): the share of runs above each of N scores, with its interval."""

    thresholds: NDArray[np.float64]
    """The scores [N]."""
    share: NDArray[np.float64]
    """Of runs that are above them [N]."""
    low: NDArray[np.float64]
    """[N]."""
    high: NDArray[np.float64]
    """[N]."""


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 1000,
) -> Profile:
    """Return the share of runs (seeds and tasks) whose score is above each threshold, with pointwise intervals.

    Args:
        scores: [S, T].
        thresholds: [N].
        generator: source of every draw; tasks and seeds are drawn anew.
        level: nominal coverage.
        resamples: number of bootstrap resamples.

    Raises:
        MetaMapError: another shape, values that are not finite, a level outside (0, 1), or no resamples.
    """
    check_draws(level, resamples)
    matrix, places = finite(scores), finite(thresholds)
    if matrix.ndim != 2 or places.ndim != 1:
        raise MetaMapError(
            f"scores: expected [seeds, tasks] and thresholds [N], got shapes {matrix.shape} and {places.shape}"
        )
    seeds, tasks = matrix.shape  # drawn one resample after another: `multiplicities` would draw others than stored ones
    above = (matrix[..., None] > places).astype(np.float64)  # [S, T, N]
    shares = np.empty((resamples, len(places)))
    for index in range(resamples):
        task = generator.integers(tasks, size=(1, tasks))
        shares[index] = above[generator.integers(seeds, size=(seeds, 1)), task].mean(axis=(0, 1))
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Profile(places, above.mean(axis=(0, 1)), low, high)
