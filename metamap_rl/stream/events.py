"""What a running stream tells whoever watches it. Nothing here changes the stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from metamap_rl.stream.record import EvaluationRow, Record, StageRow

__all__ = ["Doing", "OnStream", "Scores", "StageDone", "StageStarted", "StreamEvent", "StreamStarted"]


@dataclass(frozen=True)
class Scores:
    """Scores after a stage (`EvaluationRow.score`, means over tasks); None where nothing was measured."""

    before: float | None = None
    """Of the stage's own task, after the stage before: R[i-1, i]."""
    current: float | None = None
    """Of the stage's own task: R[i, i]."""
    old: float | None = None
    """Of the tasks before it: mean of R[i, j], j < i."""
    held_out: float | None = None
    """Of the held-out tasks."""

    @classmethod
    def of(cls, record: Record, stage: int) -> Scores:
        """Read them from a record; the work does not grow with the number of stages."""
        now, before = record.evaluations(stage), record.evaluations(stage - 1)
        return cls(
            before=_mean(row for row in before if _is(row, stage)),
            current=_mean(row for row in now if _is(row, stage)),
            old=_mean(row for row in now if row.split == "stream" and row.position + 1 < stage),
            held_out=_mean(row for row in now if row.split == "held-out"),
        )


@dataclass(frozen=True)
class StreamStarted:
    """A run begins, or goes on after some stages."""

    name: str
    total: int
    """Stages of the whole stream."""
    done: int
    """Stages that are done already."""
    memory_budget: int
    """Bytes."""
    past: Sequence[tuple[StageRow, Scores]] = ()
    """Some of the stages done already, oldest first, for a table that goes on where it was."""


@dataclass(frozen=True)
class StageStarted:
    """A task has arrived."""

    stage: int
    total: int
    family: str
    task: str
    """In words (`Task.describe`)."""


@dataclass(frozen=True)
class Doing:
    """What is being done from now on, or how far it is."""

    what: str
    """"base policy", "reference experts", "probe", "map", "check", "expert", "update", "evaluate", ..."""
    done: float = 0
    total: float | None = None
    """None if it is not known."""
    detail: str = ""
    """Which one, or how good it is so far."""


@dataclass(frozen=True)
class StageDone:
    """A stage is done and recorded."""

    row: StageRow
    scores: Scores
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by what they were spent on."""
    notes: Sequence[str] = ()


StreamEvent = StreamStarted | StageStarted | Doing | StageDone


class OnStream(Protocol):
    """Whoever watches a stream."""

    def __call__(self, event: StreamEvent, /) -> None:
        """Take notice of an event; called in the thread that runs the stream."""


def _is(row: EvaluationRow, stage: int) -> bool:
    return row.split == "stream" and row.position + 1 == stage


def _mean(rows: Iterable[EvaluationRow]) -> float | None:
    scores = [row.score for row in rows if row.score is not None]
    return sum(scores) / len(scores) if scores else None
