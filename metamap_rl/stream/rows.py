"""Rows of a stream's record: stages, evaluations, and a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metamap_envs.errors import unknown_name

__all__ = ["DECISIONS", "Entry", "EvaluationRow", "StageRow"]

DECISIONS = ("served", "trained", "reused", "failed")
"""Outcomes of a stage: the generated policy was served; an expert was trained; the expert of the segment was reused; or
the stage failed.
"""


@dataclass(frozen=True)
class StageRow:
    """Results of one stage. Returns are means over episodes, in the environment's units."""

    stage: int
    """Number of the stage, from 1."""
    task: dict[str, Any]
    """The task as `Task.to_json`; hidden from the mapper."""
    family: str
    embodiment: str
    segment: int
    """Number of the segment (arrivals of one task), counted by the learner."""
    boundary: bool
    """Whether the learner assumed a new task."""
    true_boundary: bool
    """Whether it was a new task."""
    confidence: float | None
    """Confidence in the generated policy, in [0, 1]."""
    predicted_return: float | None
    """Expected return of the generated policy."""
    base_return: float | None
    """Measured return of phi_0."""
    generated_return: float | None
    """Measured return of phi_hat."""
    decision: str
    """One of `DECISIONS`."""
    expert_return: float | None
    """Return of the trained expert; None without one."""
    expert_steps: int
    """Environment steps spent on an expert."""
    full_steps: int
    """Environment steps of the expert's recipe."""
    environment_steps: int
    """Environment steps of probe and check."""
    accepted: bool | None
    """Whether the update was accepted; None without an update or validation."""
    validation_before: float | None
    """Validation loss before the update."""
    validation_after: float | None
    """Validation loss after the update."""
    memory_bytes: int
    memory_items: int
    phi_hat: str
    """Artifact with the generated weights; "" without any."""
    detail: str
    """Human-readable note; "" without one."""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise unknown_name("decision", self.decision, DECISIONS)

    @property
    def saved_steps(self) -> int:
        """Environment steps saved against the recipe; 0 for a failed stage."""
        return 0 if self.decision == "failed" else self.full_steps - self.expert_steps


@dataclass(frozen=True)
class EvaluationRow:
    """Evaluation of the policy generated for one task after one stage."""

    stage: int
    """Stage, 0 before the first."""
    split: str
    """"stream" or "held-out", measured from D of the config's ``map_steps``; or, from D of other lengths, "next", the
    stream's task that arrives at the next stage, and "lengths", the held-out tasks after the last stage."""
    position: int
    """Index of the task among the stream's or the held-out tasks, from 0: task ``position`` of the stream arrives at
    stage ``position + 1``."""
    task_id: str
    family: str
    steps: int
    """Transitions of D that the policy was generated from."""
    mean_return: float
    """Mean return, in the environment's units."""
    score: float | None
    """``(J - J_random) / (J_expert - J_random)``; None without an expert or if it is no better than random."""


@dataclass(frozen=True)
class Entry:
    """A log entry: start, resumption or stop of a run and the reason. Not part of the results."""

    number: int
    time: float
    """Seconds since the epoch."""
    text: str
