"""Events of a running stream, for callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from metamap_rl.stream.record import EvaluationRow, Record, StageRow

__all__ = ["Activity", "OnStream", "Scores", "StageDone", "StageStarted", "StreamEvent", "StreamStarted"]


@dataclass(frozen=True)
class Scores:
    """Scores after a stage (`EvaluationRow.score`, means over tasks); None if not measured."""

    before: float | None = None
    """Score on the stage's task after the previous stage: R[i-1, i]."""
    current: float | None = None
    """Score on the stage's task: R[i, i]."""
    old: float | None = None
    """Mean score on earlier tasks: R[i, j], j < i."""
    held_out: float | None = None
    """Mean score on the held-out tasks."""

    @classmethod
    def of(cls, record: Record, stage: int) -> Scores:
        """Read the scores from a record; the cost does not grow with the number of stages."""
        now, before = record.evaluations(stage), record.evaluations(stage - 1)
        return cls(
            before=_mean(row for row in before if _is(row, stage)),
            current=_mean(row for row in now if _is(row, stage)),
            old=_mean(row for row in now if row.split == "stream" and row.position + 1 < stage),
            held_out=_mean(row for row in now if row.split == "held-out"),
        )


@dataclass(frozen=True)
class StreamStarted:
    """A run starts or resumes."""

    name: str
    total: int
    """Total number of stages."""
    done: int
    """Number of stages done."""
    memory_budget: int
    """Memory budget in bytes."""
    past: Sequence[tuple[StageRow, Scores]] = ()
    """Some of the finished stages, oldest first, to continue a table."""


@dataclass(frozen=True)
class StageStarted:
    """A task has arrived."""

    stage: int
    total: int
    family: str
    task: str
    """Description of the task (`Task.describe`)."""


@dataclass(frozen=True)
class Activity:
    """Current activity and its progress."""

    what: str
    """"base policy", "reference experts", "probe", "map", "check", "expert", "update", "evaluate", ..."""
    done: float = 0
    total: float | None = None
    """Total, None if unknown."""
    detail: str = ""
    """Item or interim result."""


@dataclass(frozen=True)
class StageDone:
    """A stage is finished and recorded."""

    row: StageRow
    scores: Scores
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by activity."""
    notes: Sequence[str] = ()


StreamEvent = StreamStarted | StageStarted | Activity | StageDone


class OnStream(Protocol):
    """Callback for events of a stream."""

    def __call__(self, event: StreamEvent, /) -> None:
        """Handle an event, in the thread of the stream."""


def _is(row: EvaluationRow, stage: int) -> bool:
    return row.split == "stream" and row.position + 1 == stage


def _mean(rows: Iterable[EvaluationRow]) -> float | None:
    scores = [row.score for row in rows if row.score is not None]
    return sum(scores) / len(scores) if scores else None
