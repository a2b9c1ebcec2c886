"""Metrics of a stream, each by the name of its formula.

``R`` is float64 [T+1, T]: ``R[i, j]`` is the score on task j after stage i; row 0 is the initial mapper, and task j
(1..T) is column ``j - 1``. `H` is float64 [T+1, N]: the same for N tasks that the stream does not train on. NaN stands
for "not measured"; a metric that needs such an entry raises an error that names it, and never leaves it out.

Words like "forgetting" mean several formulas in the literature, so none of them is used without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["METRICS", "ap", "ap_final", "bwt", "bwt_families", "f_last", "f_max", "fwt_zs", "gen", "growth", "so_far"]


def ap_final(R: ArrayLike) -> float:
    """``AP_final = mean_j R[T, j]``: the average score on all tasks at the end.

    Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", equation for average accuracy.

    Raises:
        MetaMapError: R has another shape, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "AP_final", least=1)
    return float(np.mean([_at(matrix, "AP_final", len(matrix) - 1, j) for j in _tasks(matrix)]))


def f_last(R: ArrayLike) -> float:
    """``F_last = mean_{j<T} (R[j, j] - R[T, j])``: what was lost since each task was learnt; negative is a gain.

    ``-BWT`` of Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning"; "forgetting" of
    Wolczyk et al. 2021, "Continual World", who average over all tasks, the last of which adds 0.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "F_last", least=2)
    last = len(matrix) - 1
    drops = [_at(matrix, "F_last", j, j) - _at(matrix, "F_last", last, j) for j in range(1, last)]
    return float(np.mean(drops))


def bwt(R: ArrayLike) -> float:
    """``BWT = mean_{j<T} (R[T, j] - R[j, j]) = -F_last``.

    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning".

    Raises:
        MetaMapError: as for `f_last`.
    """
    return -f_last(R)


def f_max(R: ArrayLike) -> float:
    """``F_max = mean_{j<T} (max_{j<=k<T} R[k, j] - R[T, j])``: what was lost since each task was at its best.

    Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", but for the stages before a task was learnt, which
    are left out here. Never below F_last.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "F_max", least=2)
    last = len(matrix) - 1
    drops = [
        max(_at(matrix, "F_max", k, j) for k in range(j, last)) - _at(matrix, "F_max", last, j) for j in range(1, last)
    ]
    return float(np.mean(drops))


def fwt_zs(R: ArrayLike) -> float:
    """``FWT_zs = mean_{j>=2} (R[j-1, j] - R[0, j])``: what the tasks before gave a task, without training on it.

    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning", with the initial mapper for their
    random initialisation.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "FWT_zs", least=2)
    gains = [_at(matrix, "FWT_zs", j - 1, j) - _at(matrix, "FWT_zs", 0, j) for j in range(2, len(matrix))]
    return float(np.mean(gains))


def ap(R: ArrayLike) -> NDArray[np.float64]:
    """``AP(i) = mean_{j<=i} R[i, j]``: the average score on the tasks seen so far, after each stage i = 1..T.

    Returns:
        float64 [T], NaN at stages where one of them was not measured.

    Raises:
        MetaMapError: R has another shape.
    """
    matrix = _checked(R, "AP", least=1)
    return np.array([matrix[i, :i].mean() for i in range(1, len(matrix))])


def gen(H: ArrayLike) -> NDArray[np.float64]:
    """``GEN_k(i) = mean_j H[i, j]``: the score on held-out tasks from k steps of D, after each stage i = 0..T.

    Args:
        H: [T+1, N], measured with D of k steps.

    Returns:
        float64 [T+1], NaN at stages where one of the tasks was not measured.

    Raises:
        MetaMapError: H is no matrix, has no tasks, or holds an infinite score.
    """
    matrix = np.asarray(H, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or np.isinf(matrix).any():
        raise MetaMapError(f"GEN_k: expected finite scores [T+1, N] of at least one task, got shape {matrix.shape}")
    return np.asarray(matrix.mean(axis=1), dtype=np.float64)


def bwt_families(H: ArrayLike, families: Sequence[str], stream: Sequence[str]) -> float:
    """``BWT_families = mean_{j: l(j)<T} (H[T, j] - H[l(j), j])``, l(j) the last stage that was of task j's family.

    BWT on tasks that were never trained on: what later families did to the tasks of earlier ones.

    Args:
        H: [T+1, N], scores of held-out tasks.
        families: [N], the family of each.
        stream: [T], the family of each stage.

    Raises:
        MetaMapError: shapes that do not fit, no task of an earlier family, or an entry that was not measured.
    """
    matrix, last = np.asarray(H, dtype=np.float64), len(stream)
    if matrix.shape != (last + 1, len(families)):
        raise MetaMapError(
            f"BWT_families: expected scores [{last + 1}, {len(families)}] of {last} stages and {len(families)} tasks, "
            f"got shape {matrix.shape}"
        )
    taught = {family: stage for stage, family in enumerate(stream, start=1)}
    earlier = [(j, taught[name]) for j, name in enumerate(families, 1) if name in taught and taught[name] < last]
    if not earlier:
        raise MetaMapError("BWT_families: no held-out task is of a family that ended before the last stage")
    changes = [_at(matrix, "BWT_families", last, j) - _at(matrix, "BWT_families", stage, j) for j, stage in earlier]
    return float(np.mean(changes))


METRICS: Mapping[str, Callable[[ArrayLike], float]] = {
    "AP_final": ap_final,
    "F_last": f_last,
    "F_max": f_max,
    "BWT": bwt,
    "FWT_zs": fwt_zs,
}
"""The metrics that are one number made of R, by the names under which they are printed."""


def so_far(R: ArrayLike, stage: int) -> NDArray[np.float64]:
    """R of a stream as if it had ended after ``stage``: [stage+1, stage].

    Args:
        R: [rows, tasks], with at least ``stage + 1`` rows and ``stage`` tasks.
        stage: at least 0.

    Raises:
        MetaMapError: R does not reach so far.
    """
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or not 0 <= stage < len(matrix) or stage > matrix.shape[1]:
        raise MetaMapError(f"R: expected at least [{stage + 1}, {stage}], got shape {matrix.shape}")
    return matrix[: stage + 1, :stage]


def growth(values: Iterable[float], count: int = 10) -> float:
    """How a cost per stage grew: the mean of the last ``count`` stages over that of the first ``count``.

    Raises:
        MetaMapError: fewer than ``2 * count`` values, or a first mean that is not positive.
    """
    series = np.array(list(values), dtype=np.float64)
    if count < 1 or len(series) < 2 * count:
        raise MetaMapError(f"growth: expected at least {2 * count} stages, got {len(series)}")
    first = float(series[:count].mean())
    if not first > 0:
        raise MetaMapError(f"growth: expected a positive mean of the first {count} stages, got {first}")
    return float(series[-count:].mean()) / first


def _checked(R: ArrayLike, name: str, *, least: int) -> NDArray[np.float64]:
    """R as float64 [T+1, T] with at least ``least`` tasks."""
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1:
        raise MetaMapError(f"{name}: expected R of shape [T+1, T], got {list(matrix.shape)}")
    if matrix.shape[1] < least:
        raise MetaMapError(f"{name}: expected at least {least} task{'s' * (least > 1)}, got {matrix.shape[1]}")
    return matrix


def _tasks(matrix: NDArray[np.float64]) -> range:
    return range(1, matrix.shape[1] + 1)


def _at(matrix: NDArray[np.float64], name: str, i: int, j: int) -> float:
    """``R[i, j]``, tasks counted from 1."""
    value = float(matrix[i, j - 1])
    if not np.isfinite(value):
        measured = "was not measured" if np.isnan(value) else f"is {value}"
        raise MetaMapError(f"{name} needs the score on task {j} after stage {i}, which {measured}")
    return value
