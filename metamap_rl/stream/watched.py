"""State of a running stream, collected from its events, and its text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from metamap_rl.stream.events import Activity, Scores, StageStarted, StreamEvent, StreamStarted
from metamap_rl.stream.record import StageRow

__all__ = ["COLUMNS", "STOPPING", "Watched", "cells", "duration", "megabytes", "sentence"]

COLUMNS = ("stage", "family", "decision", "return", "score", "old", "held-out", "expert steps", "update", "seconds")
"""Headings of a table of stages; `cells` makes its rows: return is that of the generated policy, then the expert's;
score that of the stage's task before and after it; old and held-out are means over tasks."""

STOPPING = "stopping when this stage is done and saved; Ctrl-C again stops at once and loses it"


@dataclass
class Watched:
    """State of a stream, collected from its events."""

    clock: Callable[[], float] = time.monotonic
    stream: StreamStarted | None = None
    stage: StageStarted | None = None
    doing: Activity | None = None
    rows: list[tuple[StageRow, Scores, float | None]] = field(default_factory=list)
    """Finished stages with their seconds, None for those of an earlier run."""
    notes: Sequence[str] = ()
    """Scores of the last stage."""
    stopping: bool = False
    began: float = 0.0
    doing_since: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.doing_since = self.clock()

    def __call__(self, event: StreamEvent) -> None:
        """Update the state with an event."""
        if isinstance(event, StreamStarted):
            self.stream, self.doing = event, None
            self.rows = [(row, scores, None) for row, scores in event.past]
        elif isinstance(event, StageStarted):
            self.stage, self.doing = event, None
        elif isinstance(event, Activity):
            if self.doing is None or (self.doing.what, self.doing.total) != (event.what, event.total):
                self.doing_since = self.clock()
            self.doing = event
        else:
            self.rows = [*self.rows, (event.row, event.scores, sum(event.timings.values()))]
            self.stage, self.doing, self.notes = None, None, tuple(event.notes)

    @property
    def running(self) -> bool:
        """Whether a stage is in progress."""
        return self.stream is not None

    @property
    def done(self) -> int:
        """Number of finished stages."""
        stream, rows = self.stream, self.rows
        if rows:
            return rows[-1][0].stage
        return stream.done if stream is not None else 0

    @property
    def steps(self) -> tuple[int, int]:
        """Expert steps spent and saved so far."""
        rows = [row for row, _, _ in self.rows]
        return sum(row.expert_steps for row in rows), sum(row.saved_steps for row in rows)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the stages of this run; None before the first is finished."""
        stream, took = self.stream, [seconds for _, _, seconds in self.rows if seconds is not None]
        return (stream.total - self.done) * sum(took) / len(took) if stream is not None and took else None


def cells(row: StageRow, scores: Scores, seconds: float | None) -> tuple[str, ...]:
    """One stage under `COLUMNS`."""
    return (
        str(row.stage),
        row.family,
        row.decision,
        f"{_return(row.generated_return)} -> {_return(row.expert_return)}",
        f"{_score(scores.before)} -> {_score(scores.current)}",
        _score(scores.old),
        _score(scores.held_out),
        f"{row.expert_steps:,}",
        {None: "-", True: "kept", False: "undone"}[row.accepted],
        "-" if seconds is None else f"{seconds:.1f}",
    )


def sentence(watched: Watched) -> str:
    """The last stage in one line."""
    row, scores, seconds = watched.rows[-1]
    spent, saved = watched.steps
    stream = watched.stream
    total, budget = (stream.total, stream.memory_budget) if stream is not None else (row.stage, row.memory_bytes)
    parts = [
        f"stage {row.stage} of {total}: {row.family}",
        row.decision,
        f"score {_score(scores.before)} -> {_score(scores.current)}",
        f"old tasks {_score(scores.old)}",
        f"held-out tasks {_score(scores.held_out)}",
        f"expert steps {row.expert_steps:,} (so far {spent:,}, saved {saved:,})",
        f"memory {megabytes(row.memory_bytes)} of {megabytes(budget)} MB",
        *(["update undone"] if row.accepted is False else []),
        f"{seconds or 0.0:.1f} s",
    ]
    return ", ".join(parts)


def megabytes(count: int) -> str:
    """Bytes in millions, such as "8.00"."""
    return f"{count / 1e6:.2f}"


def _return(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, such as "0:01:30"."""
    return str(timedelta(seconds=round(seconds)))
