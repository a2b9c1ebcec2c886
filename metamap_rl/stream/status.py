"""Status of a running, stopped or finished stream, from its record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.metrics import METRICS, ap, bwt_families, gen, so_far
from metamap_rl.stream.record import DECISIONS, EvaluationRow, Record, StageRow

__all__ = ["Status", "read_status"]


@dataclass(frozen=True)
class Status:
    """Progress and results so far."""

    done: int
    total: int
    alive: bool
    """Whether a process is running it."""
    decisions: dict[str, int]
    """Number of stages by decision, without zeros."""
    metrics: dict[str, float | None]
    """`METRICS` and BWT_families by name, of the stages so far; None if undefined or not measured."""
    ap: list[float | None]
    """AP(i) after stages 1..done; None where it was not measured."""
    gen: dict[int, list[float | None]]
    """GEN_k(i) after stages 0..done, by k; None where it was not measured."""
    expert_steps: int
    saved_steps: int
    environment_steps: int
    memory_bytes: int
    memory_items: int
    seconds: dict[str, float]
    """Seconds of all stages, by activity."""
    notes: list[tuple[int, str]]
    """(stage, sentence), oldest first."""
    log: list[tuple[str, str]]
    """(time, sentence): starts, resumptions and stops of the run; oldest first."""


def read_status(record: Record, total: int) -> Status:
    """Read the status of a stream.

    Args:
        record: open for reading.
        total: total number of stages.

    Raises:
        MetaMapError: the record is damaged.
    """
    with record.still():
        return _read(record, total)


def _read(record: Record, total: int) -> Status:
    stages, evaluations = record.stages(), record.evaluations()
    return Status(
        done=len(stages),
        total=total,
        alive=Record.is_open_for_writing(record.path),
        decisions={name: count for name in DECISIONS if (count := Counter(row.decision for row in stages)[name])},
        metrics=_metrics(record, stages, evaluations),
        ap=_curve(ap(_matrix(record, evaluations, len(stages)))) if stages else [],
        gen={
            steps: _curve(gen(record.matrix("held-out", steps=steps)))
            for steps in sorted({row.steps for row in evaluations if row.split == "held-out"})
        },
        expert_steps=sum(row.expert_steps for row in stages),
        saved_steps=sum(row.saved_steps for row in stages),
        environment_steps=sum(row.environment_steps for row in stages),
        memory_bytes=stages[-1].memory_bytes if stages else 0,
        memory_items=stages[-1].memory_items if stages else 0,
        seconds=_seconds(record),
        notes=[(stage, text) for stage, texts in record.notes().items() for text in texts],
        log=[(_time(entry.time), entry.text) for entry in record.entries()],
    )


def _matrix(record: Record, evaluations: list[EvaluationRow], done: int) -> NDArray[np.float64]:
    """R of the stream so far [done + 1, done], at the longest length of D; NaN if not measured."""
    steps = max((row.steps for row in evaluations if row.split == "stream"), default=None)
    R = record.matrix("stream", steps=steps)
    missing = max(0, done - R.shape[1])
    return so_far(np.pad(R, ((0, 0), (0, missing)), constant_values=np.nan), done)


def _metrics(record: Record, stages: list[StageRow], evaluations: list[EvaluationRow]) -> dict[str, float | None]:
    R = _matrix(record, evaluations, len(stages))
    found: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        try:
            found[name] = metric(R)
        except MetaMapError:
            found[name] = None
    return {**found, "BWT_families": _bwt_families(record, stages, evaluations)}


def _bwt_families(record: Record, stages: list[StageRow], evaluations: list[EvaluationRow]) -> float | None:
    held_out = [row for row in evaluations if row.split == "held-out"]
    if not held_out:
        return None
    families = {row.position: row.family for row in held_out}
    H = record.matrix("held-out", steps=max(row.steps for row in held_out))
    try:
        return bwt_families(H, [families.get(j, "") for j in range(H.shape[1])], [row.family for row in stages])
    except MetaMapError:
        return None


def _seconds(record: Record) -> dict[str, float]:
    total: Counter[str] = Counter()
    for timing in record.timings().values():
        total.update(timing)
    return dict(total)


def _curve(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
