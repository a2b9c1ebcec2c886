"""Aggregates with intervals: interquartile mean, ratio of sums, probability of improvement, performance profile.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"; written on
``scipy.stats`` with an explicit generator, so that a report's intervals can be reproduced to the bit. There a run is of
one task. Here a seed is one mapper (or learner) for all tasks, whose scores rise and fall together: seeds and tasks are
drawn crossed (Owen 2007, "The pigeonhole bootstrap"), the same seeds for every task. Seeds drawn within each task would
give intervals that are too narrow by as much as seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = [
    "Interval",
    "Profile",
    "Ratio",
    "Resampled",
    "bootstrap_interval",
    "iqm",
    "performance_profile",
    "probability_of_improvement",
    "ratio_of_sums",
    "worst_decile",
]

Resampled = Literal["seeds and tasks", "seeds", "tasks"]
"""Axes that the bootstrap resamples: see :func:`bootstrap_interval`."""

CHUNK = 1000
"""Resamples held in memory at a time."""

_QUARTER = 0.25


@dataclass(frozen=True)
class Interval:
    """An estimate (of `bootstrap_interval`, a trimmed mean) with a percentile bootstrap interval."""

    estimate: float
    """Of the scores themselves, in their unit."""
    low: float
    high: float
    level: float
    """Nominal coverage, 0.95 for a 95 % interval."""
    resampled: Resampled
    """Resampled axes, for printing beside the numbers."""
    seeds: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean: the mean without the lowest and the highest quarter of the values.

    With N values sorted, ``floor(N / 4)`` are dropped at each end and the rest is averaged (``scipy.stats.trim_mean``
    with 0.25): N = 1, 2, 3 give the plain mean.

    Args:
        values: any shape, finite, not empty; flattened.

    Raises:
        MetaMapError: no values, or a value that is not finite.
    """
    return float(trim_mean(_finite(values).ravel(), _QUARTER))


def bootstrap_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    resampled: Resampled = "seeds and tasks",
    level: float = 0.95,
    resamples: int = 5000,
    trimmed: float = _QUARTER,
) -> Interval:
    """Return the interquartile mean of ``scores`` with a crossed percentile bootstrap interval.

    One resample draws, with replacement,

    * ``"seeds"``: S seeds, the same for all tasks, which stay as they are. The interval is about these tasks only.
    * ``"tasks"``: T tasks, each with all its seeds. The interval is about tasks of the family for these seeds.
    * ``"seeds and tasks"``: S seeds and T tasks. With one seed this is ``"tasks"``.

    and takes the interquartile mean of the S * T values. The interval reaches from quantile ``(1 - level) / 2`` to
    ``(1 + level) / 2`` of those means.

    Args:
        scores: [S, T], one row per seed (a retrained mapper), one column per task; each a mean over episodes.
        generator: source of the draws; the same state gives the same interval to the bit.
        resampled: the axes to resample.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples, at least 1.
        trimmed: fraction of the values dropped at each end, in [0, 0.5); 0 for the plain mean.

    Raises:
        MetaMapError: wrong shape, values that are not finite, a level outside (0, 1), no resamples, a share outside
            [0, 0.5), or ``"seeds"`` with one seed, whose interval would have zero width.
    """
    matrix = _finite(scores)
    if matrix.ndim != 2:
        raise MetaMapError(f"scores: expected [seeds, tasks], got shape {matrix.shape}")
    if resampled not in get_args(Resampled):
        raise unknown_name("resampling", resampled, get_args(Resampled))
    _check_draws(level, resamples)
    if not 0.0 <= trimmed < 0.5:
        raise MetaMapError(f"trimmed must lie in [0, 0.5), got {trimmed}")
    seeds, tasks = matrix.shape
    if resampled == "seeds" and seeds == 1:
        raise MetaMapError("resampled='seeds' needs at least 2 seeds; with one seed use 'tasks'")
    means = np.concatenate(
        [
            _resampled_means(matrix, min(CHUNK, resamples - start), resampled, generator, trimmed)
            for start in range(0, resamples, CHUNK)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(trim_mean(matrix.ravel(), trimmed)), float(low), float(high), level, resampled, seeds, tasks)


def worst_decile(values: ArrayLike) -> float:
    """Return the mean of the lowest tenth, ``ceil(N / 10)`` of N values, which the IQM leaves out.

    Args:
        values: any shape, finite, not empty; flattened.

    Raises:
        MetaMapError: no values, or a value that is not finite.
    """
    ordered = np.sort(_finite(values).ravel())
    return float(ordered[: -(-len(ordered) // 10)].mean())


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums; see `ratio_of_sums`."""

    estimate: float
    low: float | None
    """None, as `high`, where the sum that it divides by may be 0: the ratio has no interval then."""
    high: float | None


def ratio_of_sums(
    gains: ArrayLike,
    gaps: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 5000,
) -> Ratio | None:
    """Return the sum of the gains over the sum of the gaps, with a crossed percentile bootstrap interval.

    With gains ``J - J_base`` and gaps ``J_expert - J_base`` it is the share of the gap that is closed on all tasks
    together. Each task is weighted by its gap, so that none has to be left out. One resample draws
    tasks, the same for both sums, and seeds.

    Args:
        gains: [S, T], one row per seed.
        gaps: [T].
        generator: source of every draw.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples, at least 1.

    Returns:
        None if the gaps sum to 0 or less; without an interval if that of the summed gap includes 0, or if
        there is only one task to resample.

    Raises:
        MetaMapError: other shapes, values that are not finite, a level outside (0, 1), or no resamples.
    """
    _check_draws(level, resamples)
    matrix, whole = _finite(gains), _finite(gaps)
    if matrix.ndim != 2 or whole.shape != matrix.shape[1:]:
        raise MetaMapError(f"gains, gaps: expected [seeds, tasks] and [tasks], got {matrix.shape} and {whole.shape}")
    if whole.sum() <= 0:
        return None
    estimate = float(matrix.mean(axis=0).sum() / whole.sum())
    seeds, tasks = matrix.shape
    drawn = generator.integers(tasks, size=(resamples, tasks))
    sums = whole[drawn].sum(axis=1)
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    if tasks == 1 or np.quantile(sums, quantiles[0]) <= 0:
        return Ratio(estimate, None, None)
    times = np.stack([np.bincount(row, minlength=seeds) for row in generator.integers(seeds, size=(resamples, seeds))])
    counts = np.stack([np.bincount(row, minlength=tasks) for row in drawn])
    ratios = np.einsum("rs,st,rt->r", times / seeds, matrix, counts, optimize=True) / sums
    low, high = np.quantile(ratios, quantiles)
    return Ratio(estimate, float(low), float(high))


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
    ours, theirs = _finite(scores), _finite(others)
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
        raise MetaMapError(f"scores: expected [seeds, tasks] of the same tasks, got {ours.shape} and {theirs.shape}")
    _check_draws(level, resamples)
    difference = ours[:, None] - theirs[None]
    wins = (difference > 0) + 0.5 * (difference == 0)  # [S, S', T]
    tasks = wins.shape[2]
    index = generator.integers(tasks, size=(resamples, tasks))
    ours_index = generator.integers(len(ours), size=(resamples, len(ours), 1, 1))
    theirs_index = generator.integers(len(theirs), size=(resamples, 1, len(theirs), 1))
    means = np.empty(resamples)
    for start in range(0, resamples, CHUNK):
        part = slice(start, start + CHUNK)
        drawn = wins[ours_index[part], theirs_index[part], index[part, None, None]]
        means[part] = drawn.mean(axis=(1, 2, 3))
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
    _check_draws(level, resamples)
    matrix, places = _finite(scores), _finite(thresholds)
    if matrix.ndim != 2 or places.ndim != 1:
        raise MetaMapError(
            f"scores: expected [seeds, tasks] and thresholds [N], got shapes {matrix.shape} and {places.shape}"
        )
    seeds, tasks = matrix.shape
    above = (matrix[..., None] > places).astype(np.float64)  # [S, T, N]
    shares = np.empty((resamples, len(places)))
    for index in range(resamples):
        task = generator.integers(tasks, size=(1, tasks))
        shares[index] = above[generator.integers(seeds, size=(seeds, 1)), task].mean(axis=(0, 1))
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Profile(places, above.mean(axis=(0, 1)), low, high)


def _resampled_means(
    matrix: NDArray[np.float64], count: int, resampled: Resampled, generator: np.random.Generator, trimmed: float
) -> NDArray[np.float64]:
    """Return the trimmed means [count] of ``count`` resamples of ``matrix`` [S, T]."""
    seeds, tasks = matrix.shape
    task_index = np.broadcast_to(np.arange(tasks), (count, 1, tasks))
    if resampled != "seeds":
        task_index = generator.integers(tasks, size=(count, 1, tasks))
    seed_index = np.broadcast_to(np.arange(seeds)[None, :, None], (count, seeds, 1))
    if resampled != "tasks":
        seed_index = generator.integers(seeds, size=(count, seeds, 1))
    drawn = matrix[seed_index, task_index].reshape(count, seeds * tasks)
    return np.asarray(trim_mean(drawn, trimmed, axis=1), dtype=np.float64)


def _check_draws(level: float, resamples: int) -> None:
    if not 0.0 < level < 1.0 or resamples < 1:
        raise MetaMapError(f"level must lie in (0, 1) and resamples be at least 1, got {level} and {resamples}")


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return ``values`` as float64, refusing an empty array and anything that is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise MetaMapError("scores: expected at least one value, got none")
    if not np.isfinite(array).all():
        raise MetaMapError(f"scores: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array
