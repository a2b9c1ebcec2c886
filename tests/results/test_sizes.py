"""Experiments on size and strength of policies: real cells on little, and their tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts import resizing
from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.resizing import Resizing
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.spec import PolicySpec
from metamap_rl.cli import main
from metamap_rl.results.experiments.bodies import Bodies
from metamap_rl.results.experiments.deployed_size import multiply_adds
from metamap_rl.results.size_tables import bodies_table, independent_table, size_table, specialists_table


def test_multiply_adds_are_those_of_the_matrices() -> None:
    assert multiply_adds(PolicySpec(17, 6, (8, 8))) == 17 * 8 + 8 * 8 + 8 * 6
    assert multiply_adds(PolicySpec(3, 2, ())) == 6


def test_sizes_are_measured_and_resumed(tiny_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = tmp_path / "zoo", tmp_path / "out"
    shutil.copytree(tiny_zoo.root, root)
    Zoo.open(root).put_universal(tiny.make_universal(tiny_zoo.base))
    brief = Distillation(rounds=0, states=50, steps=10, batch_size=32)
    monkeypatch.setattr(resizing, "Resizing", lambda: Resizing(tasks=3, universal=brief, base=brief, expert=brief))
    settings = [f"zoos=[{root}]", "sizes=[4,64]", "updates=3", "episodes=2", "length=20"]
    settings += ["ppo_timesteps=400", "mapper={loss: weights, survey_tasks: 4}"]
    settings += ["methods=[universal-policy, mapper, estimate, mean-expert]"]
    command = ["results", "run", "deployed-size", "--set", *settings, "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    document = json.loads((out / "deployed-size.json").read_text())
    assert set(document["sizes"]) == {"4", "64"}
    four, whole = document["sizes"]["4"], document["sizes"]["64"]
    assert four["weights"] < whole["weights"]
    seed = str(tiny_zoo.seed)
    experts = np.array(whole["returns"][seed]["expert of this size"])[0]
    np.testing.assert_allclose(experts, document["large"][seed]["expert"], rtol=1e-4)
    assert not (out / f"zoo-{seed}" / "zoos" / "64").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.name != "deployed-size.json"}
    assert main(command) == 0
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert {path.name for path in changed} <= {"experiment.json"}
    assert np.array(four["returns"][seed]["universal-ppo"]).shape == (1, 3)
    lines = size_table(document, document)
    assert sum("-goal, 2 x " in line for line in lines) == 8  # shares and differences, each of two sizes, twice


def test_a_body_is_trained_unchanged_and_run_for_longer(tmp_path: Path) -> None:
    small: dict[str, Any] = {"n_timesteps": 64, "n_envs": 2, "n_steps": 16, "batch_size": 16, "horizon": 60}
    experiment = Bodies(families=("swimmer-viscosity",), recipe=small, seeds=1, episodes=2)
    ((cell,),) = experiment.batches(tmp_path)
    found = experiment.run(cell)
    assert found["steps"] == 64
    assert [len(found["lengths"][length]["returns"]) for length in ("200", "1000")] == [2, 2]
    assert found["lengths"]["1000"]["fell"] == 0.0  # a swimmer cannot
    document = experiment.summary({cell.name: found}, tmp_path)
    (row,) = bodies_table(document)[2:]
    assert row.startswith("| Swimmer | 64 |")
    follows = experiment.model_copy(update={"first_seed": 3, "seeds": 2})
    assert [cell.job for batch in follows.batches(tmp_path) for cell in batch] == [
        (*cell.job[:1], 3),
        (*cell.job[:1], 4),
    ]


def test_trainings_of_one_recipe_are_one_row_with_students_interval() -> None:
    lengths = {"late_reward": [1.0], "fell": [0.0]}

    def document(value: float, **recipe: object) -> dict[str, Any]:
        about = {"n_envs": 2, "n_steps": 8, "batch_size": 4, "learning_rate": 0.1, "policy_kwargs": {"log_std_init": 0}}
        body = {
            "recipe": about | recipe,
            "steps": 10,
            "lengths": {length: {"returns": [value], **lengths} for length in ("200", "1000")},
            "published": [{"algorithm": "PPO", "return": 2.0}],
        }
        return {"bodies": {"Hopper": body}}

    rows = bodies_table(document(1.0), document(2.0, gamma=None), document(3.0), document(9.0, gamma=0.5))[2:]
    assert len(rows) == 2
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[3:5] == ["1, 2, 3", "2 [-0, 4]"]
    assert cells[-1] == "1.00 [-0.24, 2.24]"
    assert rows[1].rstrip(" |").endswith("4.50"), "no interval of one training"


def test_specialists_are_compared_with_the_universal_policy_in_pairs(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root)
    zoo = Zoo.open(root)
    zoo.put_universal(tiny.make_universal(tiny_zoo.base))
    settings = [
        f"zoos=[{root}]",
        "horizons=[50, 70]",
        "episodes=2",
        "length=20",
        "mapper={updates: 3, survey_tasks: 4}",
    ]
    settings += ["methods=[mapper, estimate, nearest-expert, mean-expert]"]
    command = ["results", "run", "specialists", "--set", *settings, "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    document = json.loads((tmp_path / "out" / "specialists.json").read_text())
    (found,) = document["zoos"].values()
    assert found["steps"] == 0, "experts of this zoo start from the base policy"
    assert found["explained"]["size"] > 0
    short, long = found["lengths"]["50"], found["lengths"]["70"]
    assert [len(short["returns"][name]) for name in ("base", "universal", "expert")] == [3, 3, 3]
    assert long["means"]["base"] < short["means"]["base"], "a reacher only loses in longer episodes"
    differences = short["differences"]
    assert differences["expert minus universal"]["mean"] == pytest.approx(
        differences["expert minus base"]["mean"] - differences["universal minus base"]["mean"]
    )
    assert long["means"]["mapper"] < short["means"]["mapper"]
    rows = specialists_table(document)
    assert [row.split(" | ")[2] for row in rows[2:4]] == ["50", "70"]
    assert [row.split(" | ")[1] for row in rows[-2:]] == ["50", "70"]
    assert f"{short['means']['mean-expert']:,.1f}" in rows[-2]


def test_mappers_of_independent_experts_by_their_number(tiny_zoo: Zoo, tmp_path: Path) -> None:
    small = "loss: behaviour, updates: 3, survey_tasks: 4"
    settings = [f"zoo={tiny_zoo.root}", "counts=[3]", "episodes=2", "length=20", "twins=2"]
    settings += ["rivals_with=two"]
    settings += [f"mappers={{two: {{{small}, aligned: true}}, one: {{{small}, dagger_rounds: 1}}}}"]
    settings += ["distillation={rounds: 0, states: 50, steps: 10, batch_size: 32}"]
    out = tmp_path / "out"
    command = ["results", "run", "independent-experts", "--set", *settings, "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    document = json.loads((out / "independent-experts.json").read_text())
    found = document["counts"]["3"]
    assert {"one", "two", "ridge", "nearest-expert", "nearest by the truth", "universal-policy"} <= set(found["shares"])
    assert document["starts"] == ["base"]
    twins = document["twins"]
    assert min(twins["same task"], twins["different tasks"]) > 0
    assert set(found["explained"]) == {"weights", "actions"}
    lines = independent_table(document)
    assert sum(line.startswith("| 3") for line in lines) == 3
    assert main(command) == 0, "whatever the order of the names in the file"
    for setting in ("counts=[4]", "rivals_with=three"):
        assert main([*command, "--set", *settings, setting]) == 2
