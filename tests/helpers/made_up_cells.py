"""Cells of a benchmark that were never run, for tests of what is made of results: those of scripts/bench_report.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from metamap_rl.bench.result import CellResult

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_report.py"


def _script():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("bench_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MADE_UP = _script().made_up


def cells(
    learners: tuple[str, ...] = ("replay", "joint", "finetune"),
    *,
    streams: tuple[str, ...] = ("one", "two"),
    seeds: int = 2,
    tasks: int = 6,
) -> list[CellResult]:
    """One cell for each stream, learner and seed; the fade of a learner grows in the order given above."""
    return [
        _MADE_UP(stream, learner, 0, seed, tasks=tasks, held_out=3)
        for stream in streams
        for learner in learners
        for seed in range(seeds)
    ]
