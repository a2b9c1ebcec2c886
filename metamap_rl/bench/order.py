"""Whether two benchmarks put learners in the same order: Kendall's tau, with an interval."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.bench.result import CellResult, find_results
from metamap_rl.bench.summary import check_versions, refuse_versions, summarise
from metamap_rl.stream.metrics import FORMULAS

__all__ = ["OrderAgreement", "agreement"]

TABLE = "cells.csv"
"""Table of cells that `metamap report --files` writes."""
RESAMPLES = 2000
_SEED = 0
_LEAST_LEARNERS = 3


@dataclass(frozen=True)
class OrderAgreement:
    """Kendall's tau-b of a metric of the learners that two benchmarks have in common."""

    metric: str
    learners: dict[str, tuple[float, float]]
    """Value in the first benchmark and in the second: interquartile mean over seeds and orders, mean over streams."""
    tau: float
    low: float | None
    """95 % bootstrap interval over the seeds of both; None if either has a single seed."""
    high: float | None
    seeds: tuple[int, int]
    left_out: tuple[str, ...]
    """Learners that only one has, or that lack the metric in a cell."""


def agreement(first: Path, second: Path, metric: str = "AP_final", *, across_versions: bool = False) -> OrderAgreement:
    """Compare the order of learners in two folders of results.

    One resample draws the seeds of each benchmark with replacement, the same for all learners and streams; all orders
    of a seed stay together.

    Args:
        first: folder of a benchmark, or one with the table of its cells (`TABLE`), which tells no versions.
        second: another one.
        metric: name of a metric.
        across_versions: allow different versions of environments.

    Raises:
        MetaMapError: an unknown metric, a folder without results, results of different versions, or fewer than three
            learners that both have.
    """
    if metric not in FORMULAS:
        raise unknown_name("metric", metric, FORMULAS)
    results: list[CellResult] = []
    cells: list[list[_Value]] = []
    for folder in (first, second):
        if (folder / TABLE).is_file():
            cells.append(_read_table(folder / TABLE, metric))
            continue
        found = find_results([folder])
        if not found:
            raise MetaMapError(f"{folder}: no finished cell or run of a stream in it, and no {TABLE}")
        summarise(found)  # refuses cells that do not add up
        results += found
        cells.append([_Value(cell.stream, cell.learner, cell.seed, cell.metrics[metric]) for cell in found])
    refuse_versions(check_versions(results), across_versions)
    values = [_values(found) for found in cells]
    shared = [name for name in values[0] if name in values[1]]
    if len(shared) < _LEAST_LEARNERS:
        raise MetaMapError(
            f"expected at least {_LEAST_LEARNERS} learners with {metric} in both folders, got {len(shared)}"
            + (f" ({', '.join(shared)})" if shared else "")
        )
    for folder, by_learner in zip((first, second), values, strict=True):
        if len({len(by_seed) for by_seed in by_learner[shared[0]].values()}) > 1:
            raise MetaMapError(f"{folder}: expected as many seeds in all streams")
    tables = [np.array([_by_seed(found[name]) for name in shared]) for found in values]
    means = [_means(table, np.arange(table.shape[2])[None])[:, 0] for table in tables]
    every = dict.fromkeys(cell.learner for found in cells for cell in found)
    counts = (tables[0].shape[2], tables[1].shape[2])
    low, high = _interval(tables) if min(counts) > 1 else (None, None)
    return OrderAgreement(
        metric=metric,
        learners={name: (float(a), float(b)) for name, a, b in zip(shared, *means, strict=True)},
        tau=float(kendalltau(*means).statistic) if all(len(set(mean)) > 1 for mean in means) else 0.0,
        low=low,
        high=high,
        seeds=counts,
        left_out=tuple(name for name in every if name not in shared),
    )


@dataclass(frozen=True)
class _Value:
    """A metric of one cell; None if it is undefined there."""

    stream: str
    learner: str
    seed: int
    value: float | None


def _read_table(path: Path, metric: str) -> list[_Value]:
    """The metric of each cell of a table.

    Raises:
        MetaMapError: not text, no such columns, no row, or a value that is not a finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or (), list(table)
    except UnicodeDecodeError:
        raise MetaMapError(f"{path}: expected a table of cells as UTF-8 text, got other bytes") from None
    if missing := [name for name in ("stream", "learner", "seed", metric) if name not in columns]:
        raise MetaMapError(f"{path}: not a table of cells with {metric}: no column {missing[0]!r}")
    if not rows:
        raise MetaMapError(f"{path}: expected a table of cells, got no row")
    return [_value(path, line, row, metric) for line, row in enumerate(rows, start=2)]


def _value(path: Path, line: int, row: Mapping[str, str | None], metric: str) -> _Value:
    """One row of a table."""
    given = row[metric]
    try:
        seed, value = int(row["seed"] or ""), float(given) if given else None
    except ValueError as error:
        raise MetaMapError(f"{path}, line {line}: {error}") from None
    if value is not None and not math.isfinite(value):
        raise MetaMapError(f"{path}, line {line}: expected a finite {metric}, or nothing, got {given}")
    return _Value(row["stream"] or "", row["learner"] or "", seed, value)


def _values(cells: Sequence[_Value]) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Values over orders by learner, stream and seed, of the learners that have all of them."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    incomplete: set[str] = set()
    for cell in cells:
        if cell.value is None:
            incomplete.add(cell.learner)
            continue
        found.setdefault(cell.learner, {}).setdefault(cell.stream, {}).setdefault(cell.seed, []).append(cell.value)
    every = {(cell.stream, cell.seed) for cell in cells}
    for name, by_stream in found.items():
        if {(stream, seed) for stream, by_seed in by_stream.items() for seed in by_seed} != every:
            incomplete.add(name)
    return {name: by_stream for name, by_stream in found.items() if name not in incomplete}


def _by_seed(by_stream: dict[str, dict[int, list[float]]]) -> list[list[float]]:
    """Means over orders [streams][seeds]."""
    return [[float(np.mean(by_seed[seed])) for seed in sorted(by_seed)] for _, by_seed in sorted(by_stream.items())]


def _means(table: NDArray[np.float64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Interquartile mean over seeds, mean over streams [L, R], of values [L, streams, seeds] and R draws of seeds."""
    cut = seeds.shape[1] // 4
    drawn = np.sort(table[:, :, seeds], axis=-1)
    return np.asarray(drawn[..., cut : seeds.shape[1] - cut].mean(axis=-1).mean(axis=1))


def _interval(tables: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    generator = np.random.default_rng(_SEED)
    signs = []
    for table in tables:
        count = table.shape[2]
        means = _means(table, generator.integers(count, size=(RESAMPLES, count)))
        signs.append(np.sign(means[:, None] - means[None, :]))
    pairs = np.prod([np.square(sign).sum(axis=(0, 1)) for sign in signs], axis=0)  # of learners that are not equal
    taus = (signs[0] * signs[1]).sum(axis=(0, 1)) / np.sqrt(np.maximum(pairs, 1))  # tau-b, 0 where all are equal
    low, high = np.quantile(taus, (0.025, 0.975))
    return float(low), float(high)
