"""What a stream's record holds: a row per stage, a row per evaluation, and a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metamap_envs.errors import unknown_name

__all__ = ["DECISIONS", "Entry", "EvaluationRow", "StageRow"]

DECISIONS = ("served", "trained", "reused", "failed")
"""How a stage ended: the generated policy was good enough; an expert was trained; the expert of the segment was used
again; or no expert came out."""


@dataclass(frozen=True)
class StageRow:
    """What happened at one stage. Returns are means over episodes, in the environment's units."""

    stage: int
    """1 for the first."""
    task: dict[str, Any]
    """The task that arrived, as `Task.to_json` gives it. Nothing of it was shown to the mapper."""
    family: str
    embodiment: str
    segment: int
    """Which run of arrivals this one is counted to, as the learner believes."""
    boundary: bool
    """Whether the learner took it for another task than the one before."""
    true_boundary: bool
    """Whether it was."""
    confidence: float | None
    """Of the mapper in the generated policy, in [0, 1]."""
    predicted_return: float | None
    """What the generated policy was expected to reach."""
    base_return: float | None
    """Measured, of phi_0."""
    generated_return: float | None
    """Measured, of phi_hat."""
    decision: str
    """One of `DECISIONS`."""
    expert_return: float | None
    """Of the expert that was trained; None if none was."""
    expert_steps: int
    """Environment steps that were spent on an expert."""
    full_steps: int
    """Environment steps that the expert's recipe would have spent."""
    environment_steps: int
    """Environment steps of probe and check."""
    accepted: bool | None
    """Whether the update was kept; None if there was none or it was not validated."""
    validation_before: float | None
    """Loss on the validation set from memory before the update."""
    validation_after: float | None
    """The same, after it."""
    memory_bytes: int
    memory_items: int
    phi_hat: str
    """The artifact with the generated weights; "" if none were generated."""
    detail: str
    """In words, anything else; "" if there is nothing to say."""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise unknown_name("decision", self.decision, DECISIONS)

    @property
    def saved_steps(self) -> int:
        """Environment steps that were not spent though the recipe would have; a stage that failed saves nothing."""
        return 0 if self.decision == "failed" else self.full_steps - self.expert_steps


@dataclass(frozen=True)
class EvaluationRow:
    """How well the policy generated for one task did after one stage."""

    stage: int
    """0 before the first."""
    split: str
    """"stream" or "held-out", measured from D of the config's ``map_steps``; or, from D of other lengths, "next", the
    stream's task that arrives at the next stage, and "lengths", the held-out tasks after the last stage."""
    position: int
    """Place of the task among the stream's or the held-out ones, from 0: task ``position`` of the stream arrives at
    stage ``position + 1``."""
    task_id: str
    family: str
    steps: int
    """Transitions of D that the policy was generated from."""
    mean_return: float
    """In the environment's units."""
    score: float | None
    """``(J - J_random) / (J_expert - J_random)``; None where no expert was measured or it is no better than random."""


@dataclass(frozen=True)
class Entry:
    """A line of the log: when a run began, went on, was stopped, and why. Not part of the results."""

    number: int
    time: float
    """Seconds since the epoch."""
    text: str
