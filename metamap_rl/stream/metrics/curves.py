"""Metrics of learning curves: scores on each task during learning, compared with a baseline.

``x`` is float64 [K], rising: the experience at the K points (environment steps, or transitions of D). ``C`` is float64
[T, K]: ``C[j, k]`` is the score on task j after x_k of it; ``B`` is the same for a learner that has not seen the tasks
before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import theilslopes

from metamap_envs.errors import MetaMapError

__all__ = ["TRANSFER", "abc", "area", "ft_auc", "jump_start", "pr", "recovery_time"]


def area(x: ArrayLike, curves: ArrayLike) -> NDArray[np.float64]:
    """``AUC_j = 1 / (x_K - x_1) * integral of C[j] over x``, by the trapezoid rule: the mean height of each curve.

    Args:
        x: [K], at least two points, rising.
        curves: [T, K].

    Returns:
        float64 [T].

    Raises:
        MetaMapError: another shape, x that does not rise, or a point that was not measured.
    """
    return _areas(x, curves, "AUC")


def ft_auc(x: ArrayLike, curves: ArrayLike, baseline: ArrayLike) -> float:
    """``FT_auc = mean_j (AUC_j - AUCb_j) / (1 - AUCb_j)``: of what the baseline leaves to gain, the share gained.

    "Forward transfer" of Wolczyk et al. 2021, "Continual World", whose scores are success rates; where a baseline comes
    near the expert (score 1) the quotient explodes: see `abc`.

    Args:
        x: [K].
        curves: [T, K], of the learner in the stream.
        baseline: [T, K], of a learner that has not seen the tasks before.

    Raises:
        MetaMapError: as for `area`, or a baseline whose area is 1 or more.
    """
    ours, theirs = _areas(x, curves, "FT_auc"), _areas(x, baseline, "FT_auc")
    _same(ours, theirs, "FT_auc")
    if (full := np.flatnonzero(theirs >= 1)).size:
        raise MetaMapError(
            f"FT_auc: the baseline's area on task {full[0] + 1} is {theirs[full[0]]:.3g}: nothing is left to gain"
        )
    return float(np.mean((ours - theirs) / (1 - theirs)))


def abc(x: ArrayLike, curves: ArrayLike, baseline: ArrayLike) -> float:
    """``ABC = mean_j (AUC_j - AUCb_j)``: the area between the curves, which has no quotient that may explode.

    "ABC transfer" of l2metrics, over x scaled to [0, 1].

    Raises:
        MetaMapError: as for `area`.
    """
    ours, theirs = _areas(x, curves, "ABC"), _areas(x, baseline, "ABC")
    _same(ours, theirs, "ABC")
    return float(np.mean(ours - theirs))


def jump_start(x: ArrayLike, curves: ArrayLike, baseline: ArrayLike) -> float:
    """``JS = mean_j (C[j, x_1] - B[j, x_1])``: how much higher the curves begin.

    "Jumpstart" of Taylor and Stone 2009, "Transfer Learning for Reinforcement Learning Domains".

    Raises:
        MetaMapError: as for `area`.
    """
    ours, theirs = _curves(x, curves, "JS"), _curves(x, baseline, "JS")
    _same(ours, theirs, "JS")
    return float(np.mean(ours[:, 0] - theirs[:, 0]))


TRANSFER: Mapping[str, Callable[[ArrayLike, ArrayLike, ArrayLike], float]] = {
    "FT_auc": ft_auc,
    "ABC": abc,
    "JS": jump_start,
}
"""Metrics of (x, curves, baseline), by name."""


def recovery_time(x: ArrayLike, curve: ArrayLike, before: float) -> float:
    """Experience until a curve [K] first reaches the score ``before``; one step beyond x_K if it never does.

    "Recovery time" of l2metrics, which too adds one to the experiences of a block that never recovers.

    Raises:
        MetaMapError: as for `area`, or ``before`` was not measured.
    """
    if not np.isfinite(before):
        raise MetaMapError("PR needs the score on the task when it was last learnt, which was not measured")
    points = np.asarray(x, dtype=np.float64)
    scores = _curves(points, np.asarray(curve, dtype=np.float64)[None], "PR")[0]
    reached = np.flatnonzero(scores >= before)
    return float(points[reached[0]]) if reached.size else float(points[-1]) + 1.0


def pr(times: Sequence[ArrayLike]) -> float:
    """``PR = mean over tasks of -(Theil-Sen slope of r_1, r_2, ...)``: whether a task that returns recovers faster.

    r_n is the `recovery_time` at the n-th time that the task comes back. "Performance recovery" of l2metrics.

    Args:
        times: for each task its recovery times in order; tasks with fewer than two are left out.

    Raises:
        MetaMapError: no task has two.
    """
    slopes = [float(theilslopes(series)[0]) for task in times if len(series := np.asarray(task, dtype=np.float64)) > 1]
    if not slopes:
        raise MetaMapError("PR: expected a task that came back at least twice")
    return -float(np.mean(slopes))


def _areas(x: ArrayLike, curves: ArrayLike, name: str) -> NDArray[np.float64]:
    points, matrix = np.asarray(x, dtype=np.float64), _curves(x, curves, name)
    return np.asarray(np.trapezoid(matrix, points, axis=1) / (points[-1] - points[0]), dtype=np.float64)


def _curves(x: ArrayLike, curves: ArrayLike, name: str) -> NDArray[np.float64]:
    points, matrix = np.asarray(x, dtype=np.float64), np.asarray(curves, dtype=np.float64)
    if points.ndim != 1 or len(points) < 2 or not (np.diff(points) > 0).all():
        raise MetaMapError(f"{name}: expected at least two rising points x, got {points.tolist()}")
    if matrix.ndim != 2 or matrix.shape[1] != len(points) or not len(matrix):
        raise MetaMapError(f"{name}: expected curves [T, {len(points)}], got shape {list(matrix.shape)}")
    if not np.isfinite(matrix).all():
        task, point = np.argwhere(~np.isfinite(matrix))[0]
        raise MetaMapError(
            f"{name} needs the score on task {task + 1} at x = {points[point]:g}, which was not measured"
        )
    return matrix


def _same(ours: NDArray[np.float64], theirs: NDArray[np.float64], name: str) -> None:
    if ours.shape != theirs.shape:
        raise MetaMapError(f"{name}: expected a baseline for each of {len(ours)} tasks, got {len(theirs)}")
