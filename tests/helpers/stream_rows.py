"""Rows of a stream's record, for the tests that need some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metamap_rl.stream.record import EvaluationRow, Record, StageRow

__all__ = ["add_stages", "evaluation", "stage_row"]

SHA = "ab" * 32

_STAGE = StageRow(
    stage=1,
    task={"family": "reacher-goal", "parameters": {"x": 0.1, "y": -0.0625}, "split": "train"},
    family="reacher-goal",
    embodiment="reacher",
    segment=0,
    boundary=True,
    true_boundary=True,
    confidence=None,
    predicted_return=None,
    base_return=-12.5,
    generated_return=-10.0,
    decision="trained",
    expert_return=-5.0,
    expert_steps=2000,
    full_steps=8000,
    environment_steps=1000,
    accepted=True,
    validation_before=0.5,
    validation_after=0.25,
    memory_bytes=4096,
    memory_items=4,
    phi_hat="",
    detail="",
)


def stage_row(stage: int, **changes: Any) -> StageRow:
    """A stage that trained an expert, with changes."""
    return replace(_STAGE, stage=stage, **changes)


def evaluation(stage: int, position: int, score: float | None, **changes: Any) -> EvaluationRow:
    """A score of a task of the stream (or of another split), with changes."""
    row = EvaluationRow(
        stage=stage,
        split="stream",
        position=position,
        task_id=f"reacher-goal-{position:010x}",
        family="reacher-goal",
        steps=50,
        mean_return=-10.0 + 5.0 * (score or 0.0),
        score=score,
    )
    return replace(row, **changes)


def add_stages(record: Record, scores: list[list[float]], held_out: list[list[float]] | None = None) -> None:
    """Record a stream whose matrix R is ``scores`` ([T+1][T]), with held-out scores ([T+1][H]) beside it."""
    for stage, row in enumerate(scores):
        rows = [evaluation(stage, position, score) for position, score in enumerate(row)]
        for position, score in enumerate(held_out[stage] if held_out else []):
            rows.append(evaluation(stage, position, score, split="held-out"))
        if stage == 0:
            record.add_evaluations(rows)
        else:
            record.add_stage(stage_row(stage), rows, SHA, {"probe": 0.5, "expert": 2.0})
