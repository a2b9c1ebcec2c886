"""Metrics of the scores R on the stream's tasks, and H on held-out tasks.

``R`` is float64 [T+1, T]: ``R[i, j]`` is the score on task j after stage i; row 0 is the initial mapper, and task j
(1..T) is column ``j - 1``. `H` is float64 [T+1, N]: the same for N tasks that the stream does not train on. NaN stands
for "not measured"; a metric that needs such an entry raises an error that names it, and never leaves it out.

Words like "forgetting" mean several formulas in the literature, so none of them is used without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_envs.errors import MetaMapError

__all__ = [
    "METRICS",
    "ap",
    "ap_anytime",
    "ap_final",
    "bwt",
    "bwt_families",
    "f_cw",
    "f_iso",
    "f_last",
    "f_max",
    "fwt_zs",
    "gap",
    "gen",
    "kept",
    "nbt",
    "plasticity",
    "pm",
    "regret",
    "so_far",
]


def ap_final(R: ArrayLike) -> float:
    """``AP_final = mean_j R[T, j]``: the average score on all tasks at the end.

    Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", equation for average accuracy.

    Raises:
        MetaMapError: R has another shape, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "AP_final", least=1)
    return float(np.mean([_at(matrix, "AP_final", len(matrix) - 1, j) for j in _tasks(matrix)]))


def ap_anytime(R: ArrayLike) -> float:
    """``AP_anytime = mean_i mean_{j<=i} R[i, j]``: AP(i), averaged over all stages i = 1..T.

    "Average anytime accuracy" of Caccia et al. 2020, "Online Fast Adaptation and Knowledge Accumulation".

    Raises:
        MetaMapError: R has another shape, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "AP_anytime", least=1)
    means = [np.mean([_at(matrix, "AP_anytime", i, j) for j in range(1, i + 1)]) for i in range(1, len(matrix))]
    return float(np.mean(means))


def f_last(R: ArrayLike) -> float:
    """``F_last = mean_{j<T} (R[j, j] - R[T, j])``: mean loss of score since each task was learnt; negative is a gain.

    ``-BWT`` of Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning". Continual World averages
    over one task more: `f_cw`.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "F_last", least=2)
    last = len(matrix) - 1
    drops = [_at(matrix, "F_last", j, j) - _at(matrix, "F_last", last, j) for j in range(1, last)]
    return float(np.mean(drops))


def f_cw(R: ArrayLike) -> float:
    """``F_cw = mean_{j<=T} (R[j, j] - R[T, j]) = F_last (T - 1) / T``: the last task counts as well, and adds 0.

    "Forgetting" of Wolczyk et al. 2021, "Continual World", F = 1/N sum_i (p_i(i D) - p_i(N D)) with D steps per task.

    Raises:
        MetaMapError: R has another shape, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "F_cw", least=1)
    last = len(matrix) - 1
    return float(np.mean([_at(matrix, "F_cw", j, j) - _at(matrix, "F_cw", last, j) for j in _tasks(matrix)]))


def bwt(R: ArrayLike) -> float:
    """``BWT = mean_{j<T} (R[T, j] - R[j, j]) = -F_last``.

    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning".

    Raises:
        MetaMapError: as for `f_last`.
    """
    return -f_last(R)


def f_max(R: ArrayLike) -> float:
    """``F_max = mean_{j<T} (max_{j<=k<T} R[k, j] - R[T, j])``: mean loss of score since each task was at its best.

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


def f_iso(R: ArrayLike) -> float:
    """``F_iso = mean_{j<i} (R[i-1, j] - R[i, j])``: mean loss of score per stage on each task learnt before it.

    "Isolated forgetting" of Powers et al. 2021, "CORA", averaged over all pairs of a stage i and an earlier task j, and
    not divided by a task's largest return, as scores have a unit already.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "F_iso", least=2)
    drops = [
        _at(matrix, "F_iso", i - 1, j) - _at(matrix, "F_iso", i, j) for i in range(2, len(matrix)) for j in range(1, i)
    ]
    return float(np.mean(drops))


def nbt(R: ArrayLike) -> float:
    """``NBT = mean_{j<T} mean_{j<i<=T} (R[j, j] - R[i, j])``: mean loss on a task over all later stages.

    "Negative backward transfer" of Liu et al. 2023, "LIBERO". Its sum over tasks has no term for the last one, which we
    leave out of the average as well.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    return -_maintained(R, "NBT")


def pm(R: ArrayLike) -> float:
    """``PM = mean_{j<T} mean_{j<i<=T} (R[i, j] - R[j, j]) = -NBT``: mean change over all later stages.

    "Performance maintenance" of l2metrics (New et al. 2022, "Lifelong Learning Metrics") against the most recent
    evaluation after learning, "mrlep", averaged over tasks; in scores, where l2metrics scales to 0-100. A task that
    comes back counts anew each time.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    return _maintained(R, "PM")


def _maintained(R: ArrayLike, name: str) -> float:
    matrix = _checked(R, name, least=2)
    last = len(matrix) - 1
    kept_up = [
        np.mean([_at(matrix, name, i, j) - _at(matrix, name, j, j) for i in range(j + 1, last + 1)])
        for j in range(1, last)
    ]
    return float(np.mean(kept_up))


def fwt_zs(R: ArrayLike) -> float:
    """``FWT_zs = mean_{j>=2} (R[j-1, j] - R[0, j])``: zero-shot gain on a task from the tasks before it.

    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning", with the initial mapper for their
    random initialisation.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "FWT_zs", least=2)
    gains = [_at(matrix, "FWT_zs", j - 1, j) - _at(matrix, "FWT_zs", 0, j) for j in range(2, len(matrix))]
    return float(np.mean(gains))


def regret(R: ArrayLike) -> float:
    """``REG_dyn = mean_i (1 - R[i-1, i])``: mean gap to the expert (score 1) when a task arrives.

    Dynamic regret (Zinkevich 2003, "Online Convex Programming"; the comparator is the best answer to each round's own
    task), here per stage, so that streams of different length compare.

    Raises:
        MetaMapError: R has another shape, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "REG_dyn", least=1)
    return float(np.mean([1.0 - _at(matrix, "REG_dyn", i - 1, i) for i in _tasks(matrix)]))


def plasticity(R: ArrayLike) -> float:
    """``PLA = slope of R[i, i] over i``: least-squares trend of the score just after learning.

    Negative where a learner loses the ability to learn (Dohare et al. 2024, "Loss of plasticity in deep continual
    learning", who show the curve itself); only meaningful if tasks are of similar difficulty.

    Raises:
        MetaMapError: R has another shape, fewer than 2 tasks, or an entry that is needed was not measured.
    """
    matrix = _checked(R, "PLA", least=2)
    learnt = np.array([_at(matrix, "PLA", i, i) for i in _tasks(matrix)])
    steps = np.arange(len(learnt)) - (len(learnt) - 1) / 2
    return float(steps @ learnt / (steps @ steps))


def kept(R: ArrayLike) -> NDArray[np.float64]:
    """``K(d) = mean_{j<=T-d} (R[j+d, j] - R[j, j])``: mean change of score, d = 0..T-1 stages after learning.

    Returns:
        float64 [T], the first of which is 0; NaN at distances at which some task was not measured.

    Raises:
        MetaMapError: R has another shape.
    """
    matrix = _checked(R, "K", least=1)
    learnt = np.diagonal(matrix, offset=-1)
    last = len(learnt)
    return np.array([np.mean(np.diagonal(matrix, offset=-1 - d) - learnt[: last - d]) for d in range(last)])


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


def gap(G: ArrayLike) -> float:
    """``GAP_k = mean_j G[j]``: the gap closed on held-out tasks from k steps of D, after the last stage.

    Args:
        G: [N], 0 for the return of the base policy and 1 for that of the expert, of tasks whose expert is better.

    Raises:
        MetaMapError: no such task, or a value that is not finite.
    """
    values = np.asarray(G, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise MetaMapError(f"GAP_k: expected a finite gap closed of at least one task, got shape {values.shape}")
    return float(values.mean())


def bwt_families(H: ArrayLike, families: Sequence[str], stream: Sequence[str]) -> float:
    """``BWT_families = mean_{j: l(j)<T} (H[T, j] - H[l(j), j])``, l(j) the last stage that was of task j's family.

    BWT on tasks that were never trained on: effect of later families on the tasks of earlier ones.

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
    "AP_anytime": ap_anytime,
    "F_last": f_last,
    "F_max": f_max,
    "F_cw": f_cw,
    "F_iso": f_iso,
    "BWT": bwt,
    "NBT": nbt,
    "PM": pm,
    "FWT_zs": fwt_zs,
    "REG_dyn": regret,
    "PLA": plasticity,
}
"""Metrics that reduce R to one number, by name."""


def so_far(R: ArrayLike, stage: int) -> NDArray[np.float64]:
    """R of the stream truncated after ``stage``: [stage+1, stage].

    Args:
        R: [rows, tasks], with at least ``stage + 1`` rows and ``stage`` tasks.
        stage: at least 0.

    Raises:
        MetaMapError: R has fewer stages.
    """
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or not 0 <= stage < len(matrix) or stage > matrix.shape[1]:
        raise MetaMapError(f"R: expected at least [{stage + 1}, {stage}], got shape {matrix.shape}")
    return matrix[: stage + 1, :stage]


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
    value: float = matrix.item(i, j - 1)
    if not math.isfinite(value):
        measured = "was not measured" if math.isnan(value) else f"is {value}"
        raise MetaMapError(f"{name} needs the score on task {j} after stage {i}, which {measured}")
    return value
