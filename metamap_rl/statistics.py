"""Aggregates with their uncertainty: the interquartile mean and its stratified bootstrap interval.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"; written on
``scipy.stats`` with an explicit generator, so that a report's intervals can be reproduced to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["Interval", "Resampled", "bootstrap_interval", "iqm"]

Resampled = Literal["seeds and tasks", "seeds", "tasks"]
"""What the bootstrap draws anew: see :func:`bootstrap_interval`."""

CHUNK = 1000
"""Resamples held in memory at a time."""

_QUARTER = 0.25


@dataclass(frozen=True)
class Interval:
    """An interquartile mean, or another trimmed mean, with a percentile bootstrap interval."""

    estimate: float
    """The mean of the scores themselves, in their unit."""
    low: float
    high: float
    level: float
    """Nominal coverage, 0.95 for a 95 % interval."""
    resampled: Resampled
    """What was drawn anew, to be printed beside the numbers."""
    seeds: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean: the mean of what is left without the lowest and the highest quarter.

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
    """Return the interquartile mean of ``scores`` with a stratified percentile bootstrap interval.

    Each task is a stratum. One resample draws, with replacement,

    * ``"seeds"``: S seeds within every task, independently of the other tasks; the tasks stay as they are. The
      interval is about these tasks only.
    * ``"tasks"``: T tasks, each with all its seeds. The interval is about tasks of the family for these seeds.
    * ``"seeds and tasks"``: T tasks, then S seeds within each task drawn. With one seed this is ``"tasks"``.

    and takes the interquartile mean of the S * T values. The interval reaches from quantile ``(1 - level) / 2`` to
    ``(1 + level) / 2`` of those means.

    Args:
        scores: [S, T], one row per seed (a retrained mapper), one column per task; each a mean over episodes.
        generator: source of the draws; the same state gives the same interval to the bit.
        resampled: what is drawn anew.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples, at least 1.
        trimmed: share of the values that is dropped at each end, in [0, 0.5); 0 for the plain mean, as of other
            people's tables.

    Raises:
        MetaMapError: wrong shape, values that are not finite, a level outside (0, 1), no resamples, or ``"seeds"``
            with one seed, whose interval would have width zero and say nothing.
    """
    matrix = _finite(scores)
    if matrix.ndim != 2:
        raise MetaMapError(f"scores: expected [seeds, tasks], got shape {matrix.shape}")
    if resampled not in get_args(Resampled):
        raise unknown_name("resampling", resampled, get_args(Resampled))
    if not 0.0 < level < 1.0 or resamples < 1:
        raise MetaMapError(f"level must lie in (0, 1) and resamples be at least 1, got {level} and {resamples}")
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


def _resampled_means(
    matrix: NDArray[np.float64], count: int, resampled: Resampled, generator: np.random.Generator, trimmed: float
) -> NDArray[np.float64]:
    """Return the trimmed means [count] of ``count`` resamples of ``matrix`` [S, T]."""
    seeds, tasks = matrix.shape
    task_index = np.broadcast_to(np.arange(tasks), (count, 1, tasks))
    if resampled != "seeds":
        task_index = generator.integers(tasks, size=(count, 1, tasks))
    seed_index = np.broadcast_to(np.arange(seeds)[None, :, None], (count, seeds, tasks))
    if resampled != "tasks":
        seed_index = generator.integers(seeds, size=(count, seeds, tasks))
    drawn = matrix[seed_index, task_index].reshape(count, seeds * tasks)
    return np.asarray(trim_mean(drawn, trimmed, axis=1), dtype=np.float64)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return ``values`` as float64, refusing an empty array and anything that is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise MetaMapError("scores: expected at least one value, got none")
    if not np.isfinite(array).all():
        raise MetaMapError(f"scores: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array
