"""Settings chosen on the first part of a stream, then frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_bench import BENCH, bench
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.config import load_bench
from metamap_rl.bench.estimate import estimate_parts
from metamap_rl.bench.report.tables import markdown
from metamap_rl.bench.result import find_results, read_cell
from metamap_rl.bench.run import run_bench
from metamap_rl.bench.summary import summarise
from metamap_rl.bench.tuning import Candidate, TuningSettings, choose, head

A2C = {**BENCH["learners"]["a2c"], "points": 1, "alone": False}
GRIDS: dict[str, Any] = {"replay": {"update.updates": [2, 6]}, "a2c": {"settings.gamma": [0.9, 0.99]}}


def test_settings_are_chosen_on_the_first_part_only_and_recorded(tmp_path: Path) -> None:
    out, tuning = tmp_path / "out", {"share": 0.3, "seeds": 1, "grids": GRIDS}
    tuned = bench(learners={"replay": {}, "a2c": A2C}, tuning=tuning)
    results = {cell.learner: cell for cell in run_bench(tuned, out, LocalExecutor(1))}
    for learner, cell in results.items():
        record = cell.config["tuning"]
        assert (record["share"], record["arrivals"], record["seeds"]) == (0.3, 2, 1)
        scores = [candidate["AP_final"] for candidate in record["candidates"]]
        best = record["candidates"][scores.index(max(scores))]["values"]
        assert record["chosen"] == best
        tried = [read_cell(out / "tuning" / "reach" / f"{learner}-candidate{number}-seed0") for number in range(2)]
        assert [candidate.metrics["AP_final"] for candidate in tried] == scores
        assert all(candidate.tasks == cell.tasks[:2] for candidate in tried)
        assert all(not any(candidate.H) for candidate in tried)
    assert (
        results["replay"].config["update"]["updates"] == results["replay"].config["tuning"]["chosen"]["update.updates"]
    )
    chosen = results["a2c"].config["tuning"]["chosen"]["settings.gamma"]
    assert results["a2c"].config["learner"]["settings"]["gamma"] == chosen
    assert len(find_results([out])) == 2  # those of tuning are no results
    said = markdown(summarise(find_results([out])))
    assert f"a2c on reach: settings.gamma {chosen}, chosen among 2 settings on the first 2 arrivals of 1 seeds" in said

    assert estimate_parts(tuned, out) == []
    left = {part.name: part.left for part in estimate_parts(tuned, tmp_path / "new", zoo=out / "zoo", measured=[out])}
    assert left == dict.fromkeys(("tuning replay on reach", "tuning a2c on reach"), 2) | {
        "replay on reach": 1,
        "a2c on reach": 1,
    }

    before = {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")}
    run_bench(load_bench(out), out, LocalExecutor(1))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")} == before


@pytest.mark.parametrize(
    ("tuning", "sentence"),
    [
        ({"grids": {"replai": {"update.updates": [1]}}}, "did you mean 'replay'"),
        ({"grids": {"replay": {"update.update": [1]}}}, "did you mean 'update.updates'"),
        ({"grids": {"a2c": {"setings.gamma": [0.9]}}}, "did you mean 'settings'"),
        ({"grids": {"replay": {"update.updates": []}}}, "at least 1"),
        ({"grids": {"replay": {}}}, "at least 1"),
        ({"grids": {"replay": {"a": list(range(9)), "b": list(range(9))}}}, "at most 64 combinations, got 81"),
        ({"share": 0, "grids": GRIDS}, "share"),
    ],
)
def test_what_cannot_be_tuned_is_named_at_once(tuning: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match=sentence):
        bench(tuning=tuning).check()


def test_each_candidate_is_made_before_anything_is_trained_or_written(tmp_path: Path) -> None:
    grids = {"a2c": {"settings.learning_rate": [1e-3, "fast"]}}
    with pytest.raises(MetaMapError, match=r"learner 'a2c': .*learning_rate"):
        run_bench(bench(learners={"a2c": A2C}, tuning={"seeds": 1, "grids": grids}), tmp_path / "out", LocalExecutor(1))
    assert not (tmp_path / "out").exists()


def test_the_highest_mean_is_chosen_and_the_first_of_equals() -> None:
    tuning = TuningSettings(grids={"x": {"a": [1, 2, 3]}})
    candidates = [
        Candidate({"a": 1}, [0.9, None], 10),
        Candidate({"a": 2}, [0.2, 0.6], 10),
        Candidate({"a": 3}, [0.4, 0.4], 10),
    ]
    choice = choose(candidates, tuning, 2, "x")
    assert choice.values == {"a": 2}
    assert choice.record["environment_steps"] == 30
    assert [candidate["AP_final"] for candidate in choice.record["candidates"]] == [None, 0.4, 0.4]
    with pytest.raises(MetaMapError, match="x: no setting has a score on the first 2 arrivals"):
        choose(candidates[:1], tuning, 2, "x")


def test_a_part_is_of_whole_arrivals() -> None:
    assert [head(20, 0.1), head(12, 0.1), head(3, 0.1), head(10, 0.3), head(4, 1.0)] == [2, 2, 1, 3, 4]
