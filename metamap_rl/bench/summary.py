"""Summary of cells: all metrics of each learner on each stream, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import CellResult, matrix
from metamap_rl.common.statistics import bootstrap_interval, iqm
from metamap_rl.stream.metrics import ap, gen, kept

__all__ = ["Estimate", "Group", "Summary", "bands", "check_versions", "estimate", "refuse_versions", "summarise"]

RESAMPLES = 1000
_SEED = 0
_PHYSICS = ("gymnasium", "mujoco")
"""Libraries whose version may change the behaviour of environments."""


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean over seeds and orders, with a 95 % interval if there are several seeds."""

    value: float
    low: float | None
    high: float | None
    seeds: int
    orders: int
    cells: int
    """Number of cells with a value."""
    of: int
    """Number of all cells."""


@dataclass(frozen=True)
class Group:
    """All cells of one learner on one stream."""

    stream: str
    learner: str
    cells: tuple[CellResult, ...]

    @cached_property
    def values(self) -> dict[str, dict[tuple[int, int], float]]:
        """Metrics by (seed, order), where defined."""
        found: dict[str, dict[tuple[int, int], float]] = {}
        for cell in self.cells:
            for name, value in cell.metrics.items():
                by_cell = found.setdefault(name, {})
                if value is not None:
                    by_cell[cell.seed, cell.order] = value
        return found

    @cached_property
    def metrics(self) -> dict[str, Estimate | None]:
        """Metrics over seeds and orders; None if undefined in all cells."""
        return {name: estimate(values, of=len(self.cells)) for name, values in self.values.items()}

    @property
    def seeds(self) -> list[int]:
        """Seed of each cell."""
        return [cell.seed for cell in self.cells]

    @property
    def every(self) -> int:
        """See `CellResult.every`."""
        return self.cells[0].every

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Scores [cells, T+1, T], NaN where not measured.

        Raises:
            MetaMapError: cells of different numbers of tasks.
        """
        tables = [matrix(cell.R) for cell in self.cells]
        for cell, table in zip(self.cells, tables, strict=True):
            if table.shape != tables[0].shape:
                raise MetaMapError(
                    f"{self.cells[0].place} has {tables[0].shape[1]} tasks, {cell.place} {table.shape[1]}: "
                    "cells of one learner on one stream need the same number"
                )
        return np.stack(tables)

    @property
    def sorted_scores(self) -> NDArray[np.float64]:
        """`scores` with the tasks of each cell sorted by family and id, in place of its order of arrival."""
        orders = [
            sorted(range(len(cell.tasks)), key=lambda j: (cell.families[j], cell.tasks[j])) for cell in self.cells
        ]
        return np.stack([table[:, order] for table, order in zip(self.scores, orders, strict=True)])

    @cached_property
    def held_out(self) -> NDArray[np.float64]:
        """Scores on held-out tasks [cells, T+1, N]; N is 0 without any, or if numbers differ between cells."""
        tables = [matrix(cell.H) if cell.H and cell.H[0] else np.empty((len(cell.H), 0)) for cell in self.cells]
        alike = len({table.shape for table in tables}) == 1
        return np.stack(tables if alike else [np.empty((len(table), 0)) for table in tables])

    @cached_property
    def ap(self) -> NDArray[np.float64]:
        """AP(i) [cells, T]."""
        return np.array([ap(R) for R in self.scores])

    @cached_property
    def gen(self) -> NDArray[np.float64]:
        """GEN_k(i) [cells, T+1]; without columns if there are no held-out tasks."""
        return (
            np.array([gen(H) for H in self.held_out]) if self.held_out.shape[2] else np.empty((len(self.held_out), 0))
        )

    @cached_property
    def kept(self) -> NDArray[np.float64]:
        """K(d) [cells, T]."""
        return np.array([kept(R) for R in self.scores])

    @cached_property
    def by_length(self) -> dict[int, NDArray[np.float64]]:
        """Mean score on held-out tasks [cells] by steps of D, those of H included; only lengths common to all cells."""
        found: dict[int, list[float]] = {}
        for cell in self.cells:
            rows = dict(zip(cell.lengths, cell.by_length, strict=False))
            if cell.H and cell.H[-1]:
                rows.setdefault(cell.map_steps, cell.H[-1])
            for steps, row in rows.items():
                if row:
                    found.setdefault(steps, []).append(float(matrix([row]).mean()))
        everywhere = {steps: values for steps, values in found.items() if len(values) == len(self.cells)}
        return {steps: np.array(values) for steps, values in sorted(everywhere.items())}

    def learning(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], str]:
        """Learning curves, averaged over tasks: x [K], ours and the baseline's [cells, K], and the unit of x.

        Empty if x differs between cells.
        """
        first = self.cells[0]
        alike = all(cell.curve_x == first.curve_x and cell.curves for cell in self.cells)
        cells = self.cells if alike else ()
        x = np.array(first.curve_x)
        ours = np.array([matrix(cell.curves).mean(axis=0) for cell in cells]).reshape(len(cells), len(x))
        theirs = np.array([matrix(cell.baselines).mean(axis=0) for cell in cells if cell.baselines])
        return x, ours, theirs.reshape(-1, len(x)), first.curve_unit

    @cached_property
    def final(self) -> NDArray[np.float64]:
        """Scores after the last stage [cells, T]."""
        return np.asarray(self.scores[:, -1, :])


@dataclass(frozen=True)
class Summary:
    """All groups, by stream and learner, in order of first occurrence."""

    groups: tuple[Group, ...]

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(dict.fromkeys(group.stream for group in self.groups))

    @property
    def learners(self) -> tuple[str, ...]:
        """Names of the learners."""
        return tuple(dict.fromkeys(group.learner for group in self.groups))

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """All cells."""
        return tuple(cell for group in self.groups for cell in group.cells)

    @property
    def families(self) -> tuple[str, ...]:
        """Families of all tasks."""
        return tuple(sorted({family for cell in self.cells for family in {*cell.families, *cell.held_out}}))

    def of_stream(self, stream: str) -> tuple[Group, ...]:
        """The learners on one stream."""
        return tuple(group for group in self.groups if group.stream == stream)


def summarise(cells: Iterable[CellResult]) -> Summary:
    """Group cells by stream and learner.

    Raises:
        MetaMapError: no cells, two results of the same cell, or cells of one group whose configs differ in more than
            seeds and order.
    """
    groups: dict[tuple[str, str], list[CellResult]] = {}
    seen: dict[tuple[str, str, int, int], CellResult] = {}
    for cell in cells:
        if cell.key in seen:
            raise MetaMapError(
                f"{cell.place} and {seen[cell.key].place}: two results of learner {cell.learner!r} on stream "
                f"{cell.stream!r} with order {cell.order} and seed {cell.seed}: leave one out"
            )
        seen[cell.key] = cell
        group = groups.setdefault((cell.stream, cell.learner), [])
        if group:
            _check_alike(group[0], cell)
        group.append(cell)
    if not groups:
        raise MetaMapError("no finished cell or run of a stream found")
    return Summary(tuple(Group(stream, learner, tuple(found)) for (stream, learner), found in groups.items()))


_MAY_DIFFER = ("seeds", "stream.order", "name", "description", "learner.folder")
"""Settings in which the cells of a group may differ: seeds, order, texts, and paths of a learner's files."""


def _check_alike(first: CellResult, other: CellResult) -> None:
    """Raise an error if two cells of one learner on one stream have different settings.

    Raises:
        MetaMapError: settings differ.
    """
    one, two = _settings(first.config), _settings(other.config)
    if not {"learner.files"} <= one.keys() & two.keys():  # missing in older cells
        one.pop("learner.files", None), two.pop("learner.files", None)
    key = next((key for key in {**one, **two} if one.get(key) != two.get(key)), None)  # new settings are None
    if key is None:
        return
    said = [repr(found[key]) if key in found else "not there" for found in (one, two)]
    raise MetaMapError(
        f"{first.place} and {other.place}: both are of learner {first.learner!r} on stream {first.stream!r}, but {key} "
        f"is {said[0]} in the first and {said[1]} in the second: cells that differ in more than seeds and order need "
        "different names of stream or learner"
    )


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, except for those that may differ; None is absent, as new settings are in older cells."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if value is not None and key not in _MAY_DIFFER:
            found |= _settings(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def estimate(values: Mapping[tuple[int, int], float], *, of: int | None = None) -> Estimate | None:
    """Interquartile mean of values by (seed, order); orders of a seed are resampled together; None without values.

    If orders are missing for a seed, cells are resampled independently.

    Args:
        values: values of the cells that have one.
        of: number of all cells; default that of ``values``.
    """
    if not values:
        return None
    told = (len(values), len(values) if of is None else of)
    seeds, orders = sorted({seed for seed, _ in values}), sorted({order for _, order in values})
    complete = len(values) == len(seeds) * len(orders)
    if complete:
        scores = np.array([[values[seed, order] for order in orders] for seed in seeds])
    else:
        scores = np.array(list(values.values()))[:, None]
    generator = np.random.default_rng(_SEED)
    if len(scores) < 2:
        return Estimate(iqm(scores), None, None, len(seeds), len(orders), *told)
    found = bootstrap_interval(scores, generator, resampled="seeds", resamples=RESAMPLES)
    return Estimate(found.estimate, found.low, found.high, len(seeds), len(orders), *told)


def bands(
    curves: NDArray[np.float64], seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Interquartile mean of curves [cells, K] with its 95 % bootstrap interval over seeds: three arrays [K].

    The same estimator as `estimate` of one number; NaN where a cell has none.

    Args:
        curves: curve of each cell.
        seeds: seed of each cell; orders of a seed are resampled together.
    """
    generator = np.random.default_rng(_SEED)
    _, which = np.unique(seeds, return_inverse=True)
    rows = [np.flatnonzero(which == seed) for seed in range(which.max() + 1)]
    drawn = generator.integers(len(rows), size=(RESAMPLES // 4, len(rows)))
    found = np.stack([_iqms(curves[np.concatenate([rows[seed] for seed in seeds_of])]) for seeds_of in drawn])
    return _iqms(curves), np.quantile(found, 0.025, axis=0), np.quantile(found, 0.975, axis=0)


def _iqms(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean of each column; NaN for one with a NaN."""
    cut = len(curves) // 4
    found = np.sort(curves, axis=0)[cut : len(curves) - cut].mean(axis=0)
    return np.where(np.isnan(curves).any(axis=0), np.nan, found)


def check_versions(cells: Sequence[CellResult]) -> list[str]:
    """Differences between cells in the versions of environments or libraries that affect them, as sentences."""
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        for family, gym_id in cell.environments.items():
            found.setdefault(f"environment {family}", {}).setdefault(gym_id, cell.place)
        for library in _PHYSICS:
            if library in cell.versions:
                found.setdefault(library, {}).setdefault(cell.versions[library], cell.place)
    return [
        f"{what}: " + ", ".join(f"{version} in {place}" for version, place in by_version.items())
        for what, by_version in found.items()
        if len(by_version) > 1
    ]


def refuse_versions(differences: Sequence[str], across_versions: bool) -> None:
    """Raise an error for differences of `check_versions`, unless allowed.

    Raises:
        MetaMapError: the versions differ.
    """
    if differences and not across_versions:
        raise MetaMapError(
            f"results of different versions do not compare ({differences[0]}); name --across-versions to do it anyway"
        )
