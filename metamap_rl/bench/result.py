"""Results of finished cells: all data of a report, in one JSON file in the cell's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import read_document
from metamap_rl.bench.tuning import TUNING
from metamap_rl.stream.metrics import COSTS, METRICS, TRANSFER, bwt_families, gap, gen, pr, recovery_time
from metamap_rl.stream.run import StreamRun, open_run
from metamap_rl.stream.scoreboard import Reference

__all__ = [
    "CELL",
    "RUN_PARTS",
    "CellResult",
    "cell_document",
    "find_results",
    "gaps",
    "matrix",
    "of_run",
    "plain",
    "read_cell",
]

CELL = "cell.json"
"""Name of the file; its presence marks a finished cell."""

_FORMAT = "metamap-cell-1"

_AT_THE_END = ("AP_final", "GEN_k", "GAP_k", *COSTS)
"""Metrics that do not depend on scores between the first and the last stage."""

Curve = list[float | None]


@dataclass(frozen=True)
class CellResult:
    """Results of a learner on a stream. Scores are expert-normalised; None means "not measured"."""

    stream: str
    learner: str
    order: int
    seed: int
    config: dict[str, Any]
    """All settings that determine the result."""
    versions: dict[str, str]
    environments: dict[str, str]
    """Gymnasium id by family."""
    machine: dict[str, Any]
    tasks: list[str]
    """Task ids in order of arrival."""
    families: list[str]
    """Families of the tasks."""
    held_out: list[str]
    """Families of the held-out tasks."""
    R: list[Curve]
    """Scores R [T+1][T]."""
    H: list[Curve]
    """Scores H on held-out tasks [T+1][N]."""
    map_steps: int
    """Transitions of D for R and H."""
    lengths: list[int]
    """K other lengths of D."""
    by_length: list[Curve]
    """Scores [K][N] on held-out tasks after the last stage, at these lengths."""
    curve_x: list[float]
    """Experience at the points of the learning curves: transitions of D, or environment steps."""
    curve_unit: str
    """"steps of D" or "environment steps"; "" without curves."""
    curves: list[Curve]
    """Learning curve of each task [T][points]."""
    baselines: list[Curve]
    """Learning curve of the baseline, trained on the task alone [T][points]."""
    gap_closed: dict[str, list[float]]
    """Gap closed after the last stage, by split ("stream", "held-out"), on tasks whose expert beats the base policy."""
    memory_bytes: list[int]
    """After each stage."""
    environment_steps: list[int]
    """Of each stage."""
    decisions: dict[str, int]
    """Number of stages by decision."""
    update_seconds: list[float] = field(default_factory=list)
    """Seconds of each stage; like the two fields below not reproducible."""
    map_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """Seconds of the whole cell."""
    place: str = ""
    """File that it was read from; not stored."""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Identifies the cell."""
        return self.stream, self.learner, self.order, self.seed

    @property
    def every(self) -> int:
        """Tasks between retrainings of a learner that is retrained at intervals; 1 for the others."""
        return int(self.config.get("learner", {}).get("every", 1))

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """All metrics by name; None if undefined or not measured.

        For a learner that is retrained at intervals, scores in between are those of an older mapper, and metrics that
        depend on them are None.
        """
        found = _metrics(self)
        return {name: value if self.every == 1 or name in _AT_THE_END else None for name, value in found.items()}

    def comparable(self) -> dict[str, Any]:
        """The reproducible content."""
        left_out = ("update_seconds", "map_seconds", "seconds", "place", "machine")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def matrix(rows: ArrayLike | list[Curve]) -> NDArray[np.float64]:
    """Rows of scores as float64, None as NaN."""
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)  # type: ignore[union-attr]


def _metrics(cell: CellResult) -> dict[str, float | None]:
    R, H = matrix(cell.R), matrix(cell.H) if cell.H and cell.H[0] else None
    found: dict[str, float | None] = {name: _or_none(metric, R) for name, metric in METRICS.items()}
    found["BWT_families"] = None if H is None else _or_none(bwt_families, H, cell.held_out, cell.families)
    curve = np.full(1, np.nan) if H is None else gen(H)
    found["GEN_k"] = float(curve[-1]) if np.isfinite(curve[-1]) else None
    found["GAP_k"] = _or_none(gap, cell.gap_closed.get("held-out", []))
    for name, transfer in TRANSFER.items():
        has = len(cell.curve_x) > 1 and cell.baselines
        found[name] = _or_none(transfer, cell.curve_x, matrix(cell.curves), matrix(cell.baselines)) if has else None
    found["PR"] = _recovery(cell, R) if len(cell.curve_x) > 1 else None
    series = {
        "MEM": cell.memory_bytes,
        "UPD": cell.update_seconds,
        "LAT": cell.map_seconds,
        "ENV": cell.environment_steps,
    }
    return found | {name: _or_none(cost, series[name]) for name, cost in COSTS.items()}


def _or_none(metric: Any, *arguments: Any) -> float | None:
    try:
        return float(metric(*arguments))
    except MetaMapError:
        return None


def _recovery(cell: CellResult, R: NDArray[np.float64]) -> float | None:
    """PR of the revisited tasks."""
    last: dict[str, int] = {}
    times: dict[str, list[float]] = {}
    for position, task in enumerate(cell.tasks):
        if task in last:
            earlier = last[task]
            before = R[earlier + 1, earlier]  # measured independently of `evaluation.every`, unlike [.., position]
            found = _or_none(recovery_time, cell.curve_x, matrix([cell.curves[position]])[0], before)
            times.setdefault(task, []).append(np.nan if found is None else found)
        last[task] = position
    return _or_none(pr, [series for series in times.values() if np.isfinite(series).all()])


# of a stream's run ----------------------------------------------------------------------------------------------------


def of_run(run: StreamRun, *, stream: str | None = None, learner: str | None = None, order: int = 0) -> CellResult:
    """The result of a finished run of a stream.

    Args:
        run: the run, open for reading.
        stream: name of the stream; default the config's name.
        learner: name of the learner; default the config's.
        order: number of the task order.

    Raises:
        MetaMapError: it is not finished.
    """
    record, config, manifest = run.record, run.config, run.manifest
    if not run.finished:
        raise MetaMapError(f"{run.root}: stopped after stage {record.last_stage} of {run.total}")
    stages, timings, evaluations = record.stages(), record.timings(), record.evaluations()
    lengths = sorted({row.steps for row in evaluations if row.split == "next"})
    R = record.matrix("stream")
    after_last = {(row.steps, row.position): row.score for row in evaluations if row.split == "lengths"}
    following = {(row.position, row.steps): row.score for row in evaluations if row.split == "next"}
    held_out = [task["family"] for task in manifest["held_out"]]
    curves = [[following.get((j, steps)) for steps in lengths] for j in range(run.total)] if lengths else []
    return CellResult(
        stream=config.name if stream is None else stream,
        learner=str(config.learner["name"]) if learner is None else learner,
        order=order,
        seed=config.seeds.stream,
        config=config.resolved(),
        versions=manifest["versions"],
        environments=manifest.get("environments", {}),
        machine=manifest["machine"],
        tasks=_ids(evaluations, run.total),
        families=[row.family for row in stages],
        held_out=held_out,
        R=plain(R),
        H=plain(record.matrix("held-out")),
        map_steps=config.map_steps,
        lengths=lengths,
        by_length=[[after_last.get((steps, j)) for j in range(len(held_out))] for steps in lengths],
        curve_x=[float(steps) for steps in lengths],
        curve_unit="steps of D" if lengths else "",
        curves=curves,
        baselines=plain(np.tile(R[0][:, None], len(lengths))) if lengths else [],
        gap_closed=gaps(run),
        memory_bytes=[row.memory_bytes for row in stages],
        environment_steps=[row.expert_steps + row.environment_steps for row in stages],
        decisions={name: sum(row.decision == name for row in stages) for name in sorted({r.decision for r in stages})},
        update_seconds=[timings[row.stage].get("update", 0.0) for row in stages],
        map_seconds=[timings[row.stage].get("map", 0.0) for row in stages],
        seconds=float(sum(sum(parts.values()) for parts in timings.values())),
    )


def gaps(run: StreamRun) -> dict[str, list[float]]:
    """Gap closed after the last stage by split, on tasks whose expert beats the base policy."""
    found: dict[str, list[float]] = {"stream": [], "held-out": []}
    for row in run.record.evaluations(run.record.last_stage):
        reference = run.manifest["references"].get(row.task_id)
        if row.split in found and reference is not None:
            gap = Reference(**reference).gap_closed(row.mean_return)
            found[row.split] += [] if gap is None else [gap]
    return found


def plain(array: NDArray[np.float64]) -> list[Curve]:
    """A matrix as lists, NaN as None."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in array]


def _ids(evaluations: Iterable[Any], total: int) -> list[str]:
    by_position = {row.position: row.task_id for row in evaluations if row.split == "stream"}
    return [by_position.get(position, "") for position in range(total)]


# on disk --------------------------------------------------------------------------------------------------------------


def cell_document(cell: CellResult) -> dict[str, Any]:
    """The content of the result's file."""
    return {"format": _FORMAT, **{name: value for name, value in asdict(cell).items() if name != "place"}}


def read_cell(folder: Path) -> CellResult:
    """Read the `cell_document` in a cell's folder.

    Raises:
        MetaMapError: no such file, or another format.
    """
    path = folder / CELL
    document = read_json(path)
    if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
        raise MetaMapError(f"{path}: not the result of a cell ({_FORMAT})")
    values = {name: value for name, value in document.items() if name != "format"}
    known = {item.name for item in fields(CellResult)}
    needed = known - {"place", "update_seconds", "map_seconds", "seconds"}
    if unknown := sorted((set(values) - known) | (needed - set(values))):
        raise MetaMapError(f"{path}: damaged: the key {unknown[0]!r} is missing or unknown")
    return CellResult(**{**values, "place": str(folder)})


def find_results(roots: Iterable[Path]) -> list[CellResult]:
    """Find all finished cells and runs of streams at or below some folders, each once.

    Cells of a benchmark are in the order of its learners, others in the order of their paths.

    Raises:
        MetaMapError: a folder that is not there, or a file that is damaged.
    """
    found: dict[Path, CellResult] = {}
    for root in roots:
        if not root.is_dir():
            raise MetaMapError(f"{root}: no such folder")
        order = _order(root)
        for cell in sorted(_below(root), key=lambda cell: order.get(cell.learner, len(order))):
            found.setdefault(Path(cell.place).resolve(), cell)
    return list(found.values())


def _below(root: Path) -> Iterator[CellResult]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in RUN_PARTS)
        place = Path(folder)
        if CELL in files:
            yield read_cell(place)
        elif "manifest.json" in files and "record.sqlite" in files:
            run = open_run(place)
            with run.record:
                if run.finished:
                    yield replace(of_run(run), place=folder)


def _order(root: Path) -> dict[str, int]:
    """Index of each learner in the benchmark of a folder; empty without one."""
    path = root / "bench.yaml"
    document = read_document(path) if path.is_file() else {}
    return {str(name): place for place, name in enumerate(document.get("learners") or {})}


RUN_PARTS = ("artifacts", "experts", "zoo", "mappers", "tensorboard", TUNING)
"""Folders of a run or a benchmark without results of their own."""
