"""The summary of benchmarks of streams: shares of memory, differences to joint retraining, tables and figure."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers.made_up_cells import cells
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import CellResult
from metamap_rl.bench.summary import summarise
from metamap_rl.results.stream_tables import environments_table, learners_table, memory_table

_STORED = 1_000_000


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("summarise_streams")


def made(learners: tuple[str, ...], budgets: dict[str, int]) -> list[CellResult]:
    """Cells of streams that differ in their budget; a learner with unbounded memory stores `_STORED` bytes."""
    found = []
    for cell in cells(learners, streams=tuple(budgets), seeds=3):
        config = {**cell.config, "memory_bytes": budgets[cell.stream], "update": {"updates": 3}}
        if cell.learner == "joint":
            config["learner"] = {"name": "joint", "every": len(cell.tasks)}
        stored = _STORED if cell.learner == "joint" else min(_STORED, budgets[cell.stream])
        found.append(replace(cell, config=config, memory_bytes=[stored] * len(cell.tasks)))
    return found


@pytest.fixture
def found(script: ModuleType) -> dict[str, Any]:
    """Summary of three learners with two budgets, and of joint retraining on the first stream."""
    quarter = made(("replay", "joint", "ppo"), {"quarter": _STORED // 4})
    return script.document(summarise([*quarter, *made(("replay",), {"double": 2 * _STORED})]), "joint")


def test_a_share_of_memory_is_of_what_unbounded_memory_stores(found: dict[str, Any]) -> None:
    shares = {(row["stream"], row["learner"]): row["memory_share"] for row in found["rows"]}
    assert shares == {
        ("quarter", "replay"): 0.25,
        ("quarter", "joint"): None,
        ("quarter", "ppo"): None,
        ("double", "replay"): 1.0,
    }


def test_differences_are_paired_by_seed(found: dict[str, Any]) -> None:
    rows = {(row["stream"], row["learner"]): row for row in found["rows"]}
    own, joint = rows["quarter", "replay"], rows["quarter", "joint"]
    gaps = np.subtract(own["each"]["GEN_k"], joint["each"]["GEN_k"])
    middle = own["minus_reference"]["GEN_k"]
    assert min(gaps) <= middle["low"] <= middle["iqm"] <= middle["high"] <= max(gaps)


def test_tables_have_a_row_for_each_learner_and_a_column_for_each_share(found: dict[str, Any]) -> None:
    assert {line.split(" | ")[0] for line in learners_table(found)[2:-1]} == {"| replay", "| joint", "| ppo"}
    head, _, *rows = memory_table(found)[:-1]
    assert head.endswith("| memory 25 % | memory 100 % |")
    assert len(rows) == 3  # of replay alone: the others were measured with one budget


def test_a_retrained_learner_has_no_forgetting(found: dict[str, Any]) -> None:
    joint = next(line for line in learners_table(found) if line.startswith("| joint"))
    assert joint.endswith("| – |")


def test_the_figure_has_three_panels_with_titles(script: ModuleType, found: dict[str, Any]) -> None:
    axes = script.draw(found).axes
    assert len({one.get_title(loc="left") for one in axes}) == 3


def test_without_a_reference_or_unbounded_memory_there_is_no_summary(script: ModuleType) -> None:
    with pytest.raises(MetaMapError, match="unbounded"):
        script.document(summarise(made(("replay",), {"one": _STORED})), "joint")
    with pytest.raises(MetaMapError, match="packnet"):
        script.document(summarise(made(("replay", "joint"), {"one": _STORED})), "packnet")


def test_learners_without_a_mapper_have_continual_worlds_metrics(script: ModuleType) -> None:
    summary = summarise(made(("ppo", "replay"), {"quarter": _STORED // 4}))
    with pytest.raises(MetaMapError, match="unbounded memory"):
        script.document(summary, "replay")
    found = script.document(summary, "replay", _STORED)
    assert {line.split(" | ")[0] for line in environments_table(found)[2:-1]} == {"| ppo", "| replay"}
