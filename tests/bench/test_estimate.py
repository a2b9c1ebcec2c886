"""How long a benchmark takes: what is left, and what finished cells tell of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_bench import BENCH, bench
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.storage import write_json
from metamap_rl.bench.config import bench_to_yaml
from metamap_rl.bench.estimate import Part, estimate_parts, total_seconds
from metamap_rl.bench.result import CELL, cell_document
from metamap_rl.bench.run import run_bench
from metamap_rl.cli import main

POLES: dict[str, Any] = {
    "kind": "environments",
    "environments": [{"id": "CartPole-v1", "max_episode_steps": 20, "random": 0.0, "single_task": 100.0}],
    "episodes": 1,
}
A2C: dict[str, Any] = {"sb3": "a2c", "steps": 40, "points": 1, "alone": False, "settings": {"n_steps": 20}}


def test_cells_are_scaled_from_finished_ones(tmp_path: Path) -> None:
    config = bench(streams={"poles": POLES}, learners={"a2c": A2C})
    (cell,) = run_bench(config, tmp_path / "out", LocalExecutor(1))
    # 2 s of learning 40 steps, and 3 s of 2 stages x 1 environment x 1 episode
    made = replace(cell, update_seconds=[2.0], seconds=5.0)
    write_json(tmp_path / "before" / CELL, cell_document(made))

    longer = {**A2C, "steps": 80}
    wanted = bench(streams={"poles": {**POLES, "rounds": 3}}, learners={"a2c": longer, "ppo": {"sb3": "ppo"}}, seeds=2)
    parts = {part.name: part for part in estimate_parts(wanted, tmp_path / "new", measured=[tmp_path / "before"])}
    assert list(parts) == ["a2c on poles", "ppo on poles"]
    assert parts["a2c on poles"].left == 2
    assert parts["a2c on poles"].each == pytest.approx(2.0 * 3 * 2 + 3.0 * (4 * 3) / (2 * 1))
    assert parts["ppo on poles"].each is None
    assert total_seconds(list(parts.values()), 2) == pytest.approx(parts["a2c on poles"].each)
    assert not (tmp_path / "new").exists()
    (again,) = estimate_parts(config.model_copy(update={"seeds": 2}), tmp_path / "out")
    assert (again.left, again.source) == (1, "1 of its cells")


def test_preparation_is_tried_and_done_work_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "tiny.yaml"
    document.write_text(bench_to_yaml(bench(learners={"replay": {}})))
    arguments = ["bench", "run", str(document), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    left = {part["name"]: part["left"] for part in found["parts"]}
    assert left == {"base policy of reacher-goal": 1, "experts of reacher-goal": 3, "replay on reach": 1}
    assert all(part["each"] > 0 for part in found["parts"][:2])
    assert found["not_measured"] == ["replay on reach"]
    assert not (tmp_path / "out").exists()

    run_bench(bench(learners={"replay": {}}), tmp_path / "out", LocalExecutor(1))
    assert main(arguments) == 0
    assert "nothing is left" in capsys.readouterr().out
    more = bench(learners={"replay": {}, "ewc": {}, "a2c": BENCH["learners"]["a2c"]})
    parts = {part.name: part for part in estimate_parts(more, tmp_path / "out")}
    assert set(parts) == {"ewc on reach", "a2c on reach"}
    assert parts["ewc on reach"].source == "as replay"


def test_parts_that_workers_share_and_that_they_do_not() -> None:
    parts = [Part("base", 1, 10.0, "", parallel=False), Part("cells", 3, 10.0, ""), Part("unknown", 1, None, "")]
    assert total_seconds(parts, 1) == 40
    assert total_seconds(parts, 2) == 10 + 15
    assert total_seconds(parts, 8) == 10 + 10
