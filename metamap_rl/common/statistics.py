"""Aggregates with intervals: interquartile mean, mean, worst decile, rate, ratio of sums.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"; written on
``scipy.stats`` with an explicit generator, so that a report's intervals can be reproduced to the bit. There a run is of
one task. Here a seed is one mapper (or learner) for all tasks, whose scores rise and fall together: seeds and tasks are
drawn crossed (Owen 2007, "The pigeonhole bootstrap"), the same seeds for every task. Seeds drawn within each task would
give intervals that are too narrow by as much as seeds differ. For several zoos, each with its own seeds and tasks,
there is a three-way bootstrap: `metamap_rl.common.resampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, trim_mean

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.common.resampling import Resampled, mean_of_ranks, multiplicities

__all__ = [
    "Interval",
    "Ratio",
    "Resampled",
    "aggregates_of_zoos",
    "bootstrap_interval",
    "check_draws",
    "finite",
    "iqm",
    "rate_of_zoos",
    "ratio_of_sums",
    "ratio_of_zoos",
    "worst_decile",
]

CHUNK = 1000
"""Resamples held in memory at a time."""

_QUARTER = 0.25


@dataclass(frozen=True)
class Interval:
    """An estimate with a percentile bootstrap interval."""

    estimate: float
    """Of the scores themselves, in their unit."""
    low: float
    high: float
    level: float
    """Nominal coverage, 0.95 for a 95 % interval."""
    resampled: Resampled
    """Resampled axes, for printing beside the numbers; with several zoos, of each of them, and the zoos."""
    seeds: int
    """Of each zoo; the most, if they differ."""
    tasks: int
    """Of all zoos together."""
    zoos: int = 1

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
    return float(trim_mean(finite(values).ravel(), _QUARTER))


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
    matrix = finite(scores)
    if matrix.ndim != 2:
        raise MetaMapError(f"scores: expected [seeds, tasks], got shape {matrix.shape}")
    if resampled not in get_args(Resampled):
        raise unknown_name("resampling", resampled, get_args(Resampled))
    check_draws(level, resamples)
    if not 0.0 <= trimmed < 0.5:
        raise MetaMapError(f"trimmed must lie in [0, 0.5), got {trimmed}")
    if resampled == "seeds" and len(matrix) == 1:
        raise MetaMapError("resampled='seeds' needs at least 2 seeds; with one seed use 'tasks'")
    ranks = _trimmed_ranks(trimmed)
    (found,) = _intervals([matrix], {"mean": ranks}, generator, resampled, level, resamples).values()
    return found


def aggregates_of_zoos(
    zoos: Sequence[ArrayLike], generator: np.random.Generator, *, level: float = 0.95, resamples: int = 5000
) -> dict[str, Interval]:
    """Return the interquartile mean, the mean and the worst decile of the scores of K zoos, with three-way intervals.

    All scores are pooled, those of each pair of seed and task with the same weight. One resample draws K zoos, and for
    each drawn zoo its seeds and tasks: see `metamap_rl.common.resampling`. With one zoo it is the crossed bootstrap of
    `bootstrap_interval`, and gives the same interval of the interquartile mean.

    Args:
        zoos: K matrices [S, T], one row per seed, one column per task; S and T may differ between zoos.
        generator: source of every draw; all three statistics are of the same resamples.
        level: nominal coverage, in (0, 1). With few zoos that differ much it is not reached: the percentiles cannot
            leave their range.
        resamples: number of bootstrap resamples, at least 1.

    Returns:
        Intervals by name: iqm, mean, worst_decile.

    Raises:
        MetaMapError: no zoos, wrong shapes, values that are not finite, a level outside (0, 1), or no resamples.
    """
    check_draws(level, resamples)
    return _intervals(_matrices(zoos), _RANKS, generator, "seeds and tasks", level, resamples)


def rate_of_zoos(
    zoos: Sequence[ArrayLike], generator: np.random.Generator, *, level: float = 0.95, resamples: int = 5000
) -> Interval:
    """Return the share of pairs of seed and task for which something holds, with an interval.

    The interval is the wider, at each end, of two: that of `aggregates_of_zoos`, which has no width where all pairs
    agree, and that of Clopper and Pearson 1934 with tasks for trials, each counted by the share of its seeds: seeds of
    one task are no independent trials. 0 of 16 tasks is [0, 21 %] then, for any number of seeds.

    Args:
        zoos: K matrices [S, T] of booleans.
        generator: source of every draw.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples, at least 1.

    Raises:
        MetaMapError: as `aggregates_of_zoos`.
    """
    found = aggregates_of_zoos(zoos, generator, level=level, resamples=resamples)["mean"]
    trials, hits, tail = found.tasks, found.estimate * found.tasks, (1 - level) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits >= trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return replace(found, low=min(low, found.low), high=max(high, found.high))


def worst_decile(values: ArrayLike) -> float:
    """Return the mean of the lowest tenth, ``ceil(N / 10)`` of N values, which the IQM leaves out.

    Args:
        values: any shape, finite, not empty; flattened.

    Raises:
        MetaMapError: no values, or a value that is not finite.
    """
    ordered = np.sort(finite(values).ravel())
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
    return ratio_of_zoos([gains], [gaps], generator, level=level, resamples=resamples)


def ratio_of_zoos(
    gains: Sequence[ArrayLike],
    gaps: Sequence[ArrayLike],
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 5000,
) -> Ratio | None:
    """Return the sum of the gains over the sum of the gaps of K zoos of one family, with a three-way interval.

    A task's gain is the mean over the seeds of its zoo. One resample is as in `aggregates_of_zoos`, the same for both
    sums.

    Args:
        gains: K matrices [S, T], one row per seed.
        gaps: K vectors [T].
        generator: source of every draw.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples, at least 1.

    Returns:
        As `ratio_of_sums`.

    Raises:
        MetaMapError: no zoos, other shapes, values that are not finite, a level outside (0, 1), or no resamples.
    """
    check_draws(level, resamples)
    matrices, wholes = _matrices(gains), [finite(one) for one in gaps]
    if [one.shape for one in wholes] != [one.shape[1:] for one in matrices]:
        shapes = [one.shape for one in matrices], [one.shape for one in wholes]
        raise MetaMapError(
            f"gains, gaps: expected [seeds, tasks] and [tasks] of each zoo, got {shapes[0]}, {shapes[1]}"
        )
    whole = sum(float(one.sum()) for one in wholes)
    if whole <= 0:
        return None
    estimate = sum(float(one.mean(axis=0).sum()) for one in matrices) / whole
    if sum(map(len, wholes)) == 1:
        return Ratio(estimate, None, None)
    counts = multiplicities([one.shape for one in matrices], resamples, generator)
    shares = [np.broadcast_to(gap, one.shape).ravel() / len(one) for gap, one in zip(wholes, matrices, strict=True)]
    sums = counts @ np.concatenate(shares)
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    if np.quantile(sums, quantiles[0]) <= 0:
        return Ratio(estimate, None, None)
    gained = counts @ np.concatenate([one.ravel() / len(one) for one in matrices])
    defined = sums != 0  # of few resamples, such as of one task without a gap, over and over
    low, high = np.quantile(gained[defined] / sums[defined], quantiles)
    return Ratio(estimate, float(low), float(high))


_Ranks = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Of N scores in order, [R], the first that counts and the one after the last, [R] each."""


def _trimmed_ranks(trimmed: float) -> _Ranks:
    def ranks(count: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        dropped = np.floor(trimmed * count).astype(np.int64)  # as scipy.stats.trim_mean
        return dropped, count - dropped

    return ranks


def _lowest_tenth(count: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.zeros_like(count), -(-count // 10)


_RANKS: dict[str, _Ranks] = {
    "iqm": _trimmed_ranks(_QUARTER),
    "mean": _trimmed_ranks(0.0),
    "worst_decile": _lowest_tenth,
}
"""Statistics of `aggregates_of_zoos`."""


def _intervals(
    zoos: Sequence[NDArray[np.float64]],
    statistics: Mapping[str, _Ranks],
    generator: np.random.Generator,
    resampled: Resampled,
    level: float,
    resamples: int,
) -> dict[str, Interval]:
    """Statistics of the scores of all zoos together, with the quantiles of their resamples."""
    shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in zoos]
    pooled = np.concatenate([matrix.ravel() for matrix in zoos])
    order = np.argsort(pooled, kind="stable")
    values, once = pooled[order], np.ones((1, len(pooled)), dtype=np.int64)
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for start in range(0, resamples, CHUNK):
        counts = multiplicities(shapes, min(CHUNK, resamples - start), generator, resampled)[:, order]
        for name, ranks in statistics.items():
            means[name].append(mean_of_ranks(values, counts, *ranks(counts.sum(axis=1))))
    found = {}
    for name, ranks in statistics.items():
        estimate = float(mean_of_ranks(values, once, *ranks(once.sum(axis=1)))[0])
        low, high = np.quantile(np.concatenate(means[name]), [(1 - level) / 2, (1 + level) / 2])
        seeds, tasks = max(shape[0] for shape in shapes), sum(shape[1] for shape in shapes)
        found[name] = Interval(estimate, float(low), float(high), level, resampled, seeds, tasks, len(zoos))
    return found


def _matrices(zoos: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    matrices = [finite(scores) for scores in zoos]
    if not matrices or any(matrix.ndim != 2 for matrix in matrices):
        raise MetaMapError(f"scores: expected [seeds, tasks] of each zoo, got {[one.shape for one in matrices]}")
    return matrices


def check_draws(level: float, resamples: int) -> None:
    """Raise an error for a level outside (0, 1), or no resamples."""
    if not 0.0 < level < 1.0 or resamples < 1:
        raise MetaMapError(f"level must lie in (0, 1) and resamples be at least 1, got {level} and {resamples}")


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return ``values`` as float64, refusing an empty array and anything that is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise MetaMapError("scores: expected at least one value, got none")
    if not np.isfinite(array).all():
        raise MetaMapError(f"scores: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array
