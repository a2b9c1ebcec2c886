"""`metamap build`, `families check` and `families init` on the boat of docs/examples, hardly trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metamap_agents.experts.counts import TaskCounts
from metamap_agents.experts.filling import RecipeOverrides
from metamap_envs import MetaMapError, load_family
from metamap_rl.building import build as building
from metamap_rl.building import findings
from metamap_rl.building.build import Build, BuildEvents
from metamap_rl.building.estimate import rehearse
from metamap_rl.building.plan import STAGES, BuildPlan
from metamap_rl.cli import main
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import CalibrationConfig, MapperRecipe

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LITTLE = [
    *("--train", "2", "--validation", "1", "--test-in", "2", "--base-timesteps", "4096", "--updates", "6"),
    *("--survey-tasks", "4", "--calibration-tasks", "4", "--workers", "1"),
]


@pytest.fixture(scope="module", autouse=True)
def boat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The boat's file, beside its module."""
    folder = tmp_path_factory.mktemp("boat")
    for name in ("boat.py", "boat.yml"):
        shutil.copy(EXAMPLES / name, folder)
    before = os.environ.get("METAMAP_FAMILIES")
    load_family(folder / "boat.yml")
    if before is None:
        del os.environ["METAMAP_FAMILIES"]
    else:
        os.environ["METAMAP_FAMILIES"] = before
    return folder / "boat.yml"


@pytest.fixture
def without_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried out, and one better expert by chance is enough."""
    monkeypatch.setattr(building, "rehearse", lambda plan, on_part: dict.fromkeys(STAGES, 1.0))
    monkeypatch.setattr(findings, "least_better", lambda tasks: 0)


def plan(**settings: Any) -> BuildPlan:
    little = CalibrationConfig(usual_tasks=4, return_tasks=2, harm_tasks=2)
    return BuildPlan(
        "boat",
        counts=TaskCounts(2, 1, 2),
        overrides=RecipeOverrides({"n_timesteps": 4096}),
        recipe=MapperRecipe().changed(updates=6, survey_tasks=4),
        calibration=little,
        workers=1,
    ).changed(**settings)


class StoppedError(Exception):
    """Stands for a process that is killed."""


def test_a_build_stopped_in_any_stage_goes_on_and_ends_as_one_that_was_not(without_costs: None, tmp_path: Path) -> None:
    whole = Build(plan(), tmp_path / "whole")
    assert whole.run().outcome == "mapper"
    reached = []

    def stop_in(stage: str) -> BuildEvents:
        def on_stage(now: str, done: int, total: int) -> None:
            if now == stage:
                reached.append(stage)
                raise StoppedError

        return BuildEvents(on_stage=on_stage)

    for stage in STAGES:
        with pytest.raises(StoppedError):
            Build(plan(), tmp_path / "parts", stop_in(stage)).run()
    assert reached == list(STAGES)
    parts = Build(plan(), tmp_path / "parts")
    assert parts.pending() == ["results"]
    assert parts.run().outcome == "mapper"
    one, other = (Mapper.load(tmp_path / name / "mapper").arrays() for name in ("whole", "parts"))
    assert all(np.array_equal(array, other[name]) for name, array in one.items())
    assert whole.results() == parts.results()
    assert "<svg" in (tmp_path / "parts" / "index.html").read_text()
    assert not list((tmp_path / "parts").glob("*checkpoint*"))

    told: list[str] = []
    again = Build(plan(), tmp_path / "parts", BuildEvents(on_stage=lambda stage, *_: told.append(stage)))
    assert again.pending() == []
    assert again.run().outcome == "mapper"
    assert set(told) <= {"experts"}, "nothing is done twice"

    with pytest.raises(MetaMapError, match="holds a build with counts: train = 2, asked for is 3"):
        Build(plan(counts=TaskCounts(3, 1, 2)), tmp_path / "parts")
    (tmp_path / "parts" / "build.json").write_text("{}")
    with pytest.raises(MetaMapError, match="not written by this version's build"):
        Build(plan(), tmp_path / "parts")


def test_experts_that_are_not_better_end_the_build_with_exit_code_1(
    boat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(findings, "least_better", lambda tasks: tasks + 1)
    monkeypatch.setattr(building, "rehearse", lambda plan, on_part: dict.fromkeys(STAGES, 1.0))
    out = tmp_path / "out"
    assert main(["build", str(boat), "--out", str(out), *LITTLE]) == 1
    said = capsys.readouterr()
    assert "one policy does well on all tasks" in said.out
    assert not (out / "mapper").exists()
    assert "No mapper was made" in (out / "index.html").read_text()
    assert main(["build", str(boat), "--out", str(out), *LITTLE, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["results"]) == ("no gap", None)


def test_the_rehearsal_tells_seconds_of_every_stage() -> None:
    parts: list[str] = []
    seconds = rehearse(plan(), parts.append)
    assert list(seconds) == list(STAGES)
    assert all(value > 0 for value in seconds.values())
    assert parts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--patience", "-1"], "--patience: expected 0 or more, got -1"),
        (["--train", "0"], "at least one train expert, got 0"),
        (["--base-timesteps", "0"], "n_timesteps"),
        (["--calibration-tasks", "2"], "--calibration-tasks"),
        (["--updates", "-3"], "updates"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    words: list[str], message: str, boat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["build", str(boat), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_something_else_is_refused(boat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["build", str(boat), "--out", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main(["build", str(tmp_path / "no.yml"), "--out", str(tmp_path / "out")]) == 2
    assert "no.yml" in capsys.readouterr().err


def test_families_check_of_the_example(boat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families", "check", str(boat), "--no-times", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"]
    assert [report["error"] for report in document["checkers"]] == ["", ""]
    assert [effect["parameter"] for effect in document["effects"]] == ["wind_x", "wind_y", "gain"]
    assert all(max(effect["observations"]) > 0.1 for effect in document["effects"])
    assert document["difference"]["differs"]
    assert main(["families", "check", str(boat), "--no-times"]) == 0
    said = capsys.readouterr().out
    assert "something to adapt to? yes" in said
    assert "wind_x" in said


def test_families_init_of_the_example(
    boat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(boat.parent)  # where its module lies
    assert main(["families", "init", "boat:Boat-v0", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["parameters"]] == ["wind_x", "wind_y", "gain"]
    init = ["families", "init", "boat:Boat-v0", "--parameters", "wind_x", "gain"]
    assert main(init) == 0
    text = capsys.readouterr().out
    assert main([*init, "--out", "own.yml", "--family", "own-boat"]) == 0
    assert Path("own.yml").read_text().splitlines() == text.replace("name: boat", "name: own-boat").splitlines()
    assert main([*init, "--out", "own.yml"]) == 2, "it is there already"
    assert main([*init, "--out", "own.txt"]) == 2
    assert main(["families", "show", "own.yml"]) == 0


@pytest.mark.slow
def test_a_killed_build_goes_on(boat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "metamap_rl.cli", "build", str(boat), "--out", str(out), *LITTLE]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (out / "zoo" / "base.json").exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert (out / "index.html").is_file()
    assert not list(out.rglob("*.tmp"))
