"""Listing of runs on disk, finished or not, and comparison of finished ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import CELL, RUN_PARTS, CellResult, find_results, read_cell
from metamap_rl.bench.summary import Estimate, check_versions, estimate, refuse_versions
from metamap_rl.stream.run import open_run
from metamap_rl.stream.status import read_status

__all__ = ["Comparison", "RunSummary", "compare_runs", "list_runs", "one_result"]


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run."""

    place: str
    stream: str
    learner: str
    seed: int
    done: int
    """Stages."""
    total: int
    ap_final: float | None


@dataclass(frozen=True)
class Comparison:
    """Metrics of folders, and their differences to the first."""

    columns: dict[str, dict[str, Estimate | None]]
    """Metrics by folder."""
    changes: dict[str, dict[str, Estimate | None]]
    """Mean difference to the first folder, over common cells, by folder, without the first."""
    differences: list[str]
    """Differences of versions, as sentences."""


def list_runs(roots: Iterable[Path]) -> list[RunSummary]:
    """All cells and runs of streams below some folders.

    Raises:
        MetaMapError: a missing folder, or a damaged file.
    """
    found: list[RunSummary] = []
    for root in roots:
        if not root.is_dir():
            raise MetaMapError(f"{root}: no such folder")
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in RUN_PARTS)
            place = Path(folder)
            if CELL in files:
                cell = read_cell(place)
                stages = len(cell.tasks)
                score = cell.metrics["AP_final"]
                found.append(RunSummary(folder, cell.stream, cell.learner, cell.seed, stages, stages, score))
            elif "record.sqlite" in files and "manifest.json" in files:
                found.append(_of_stream(place))
    return found


def _of_stream(place: Path) -> RunSummary:
    run = open_run(place)
    with run.record as record:
        status = read_status(record, run.total)
        score = status.metrics["AP_final"] if run.finished else None
        name, learner, seed = run.config.name, str(run.config.learner["name"]), run.config.seeds.stream
        return RunSummary(str(place), name, learner, seed, status.done, status.total, score)


def one_result(folder: Path) -> CellResult:
    """The one finished run at or below a folder.

    Raises:
        MetaMapError: none or several.
    """
    found = find_results([folder])
    if not found:
        raise MetaMapError(f"{folder}: no finished run in it; `metamap runs list` lists all runs")
    if len(found) > 1:
        raise MetaMapError(f"{folder}: has {len(found)} finished runs, such as {found[0].place}: name one of them")
    return found[0]


def compare_runs(folders: Sequence[Path], *, across_versions: bool = False) -> Comparison:
    """Compare the runs in several folders.

    Args:
        folders: at least two.
        across_versions: allow different versions of environments.

    Raises:
        MetaMapError: fewer than two folders, one without results, or results of different versions.
    """
    if len(folders) < 2:
        raise MetaMapError(f"expected at least two folders to compare, got {len(folders)}")
    if len(set(folders)) < len(folders):
        raise MetaMapError("expected different folders, one is named twice")
    cells = {str(folder): find_results([folder]) for folder in folders}
    for folder, results in cells.items():
        if not results:
            raise MetaMapError(f"{folder}: no finished cell or run of a stream in it")
    differences = check_versions([cell for results in cells.values() for cell in results])
    refuse_versions(differences, across_versions)
    values = {folder: _values(results) for folder, results in cells.items()}
    first, *others = values
    changes = {other: _mean(_paired(values[first], values[other])) for other in others}
    return Comparison({folder: _mean(found) for folder, found in values.items()}, changes, differences)


Key = tuple[str, int, int]
Values = dict[str, dict[Key, list[float]]]
"""Metrics of all learners by (stream, order, seed)."""


def _values(cells: Sequence[CellResult]) -> Values:
    found: Values = {}
    for cell in cells:
        for name, value in cell.metrics.items():
            if value is not None:
                found.setdefault(name, {}).setdefault((cell.stream, cell.order, cell.seed), []).append(value)
    return found


def _paired(first: Values, other: Values) -> Values:
    """Differences of cells with both values; of several learners, of their means."""
    return {
        name: {
            key: [sum(values) / len(values) - sum(first[name][key]) / len(first[name][key])]
            for key, values in by_key.items()
            if key in first[name]
        }
        for name, by_key in other.items()
        if name in first
    }


def _mean(values: Values) -> dict[str, Estimate | None]:
    """Estimates over seeds; streams and orders of a seed are resampled together."""
    found: dict[str, Estimate | None] = {}
    for name, by_key in values.items():
        strata = {place: index for index, place in enumerate(sorted({key[:2] for key in by_key}))}
        found[name] = estimate({(key[2], strata[key[:2]]): sum(row) / len(row) for key, row in by_key.items()})
    return found
