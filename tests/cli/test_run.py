"""`metamap run`: the adapter in the simulator, live, with curves, film and a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.service import service_mapper
from metamap_agents.runtime.storage import read_json
from metamap_rl.cli import main
from metamap_rl.play.page import read_replay


@pytest.fixture(scope="module")
def mapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service") / "mapper"
    service_mapper().save(folder)
    return folder


SCHEDULE = "split: custom\nclock: run\nchanges:\n  - {step: 8, parameters: {goal_angle: 2.0}}\n"


def test_a_short_schedule_gives_curves_film_and_document(
    mapper: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "change.yaml").write_text(SCHEDULE)
    flags = ["--schedule", str(tmp_path / "change.yaml"), "--steps", "14", "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", str(mapper), *flags, "--set", "blend=2"]) == 0
    printed, log = capfd.readouterr()
    document = json.loads(printed)
    assert document == read_json(tmp_path / "out" / "run.json")
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000
    assert (tmp_path / "out" / "film.mp4").stat().st_size > 1000
    assert read_replay(tmp_path / "out").count("goal_angle") > 2
    assert [one["step"] for one in document["tasks"]] == [0, 8]
    assert {len(values) for values in document["rewards"].values()} == {14}
    assert set(document["returns"]) == {"adapter", "held", "base"}, "the mapper has no universal policy"
    assert document["adapter"]["blend"] == 2
    lines = [line for line in log.splitlines() if "step" in line]
    assert lines
    assert max(map(len, lines)) <= 89


@pytest.mark.parametrize(
    ("schedule", "flags", "words"),
    [
        ("changes: [{step: 3, parameters: {goal_angel: 1}}]", [], "goal_angle"),
        ("chances: []", [], "changes"),
        (None, [], "no such file"),
        (SCHEDULE, ["--steps", "0"], "--steps"),
        (SCHEDULE, ["--set", "blnd=2"], "blend"),
        (SCHEDULE, ["--parameters", "goal_angel=2"], "goal_angle"),
        (SCHEDULE, ["--set", "longest_window=1000000000000"], "longest_window"),
        (SCHEDULE, ["--set", "fixed_window=500"], "fixed_window"),
        ("changes: [{step: 3, every: 3, draw: all}]", [], "not both"),
        ("changes: [{step: 3, parameters: {goal_radius: 9}}]", [], "change.yaml"),
        ("changes: [{step: 3, parameters: {sign_fthigh: -1}}]", [], "change.yaml"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    mapper: Path, tmp_path: Path, schedule: str | None, flags: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "change.yaml", tmp_path / "out"
    if schedule is not None:
        path.write_text(schedule)
    assert main(["run", str(mapper), "--schedule", str(path), "--out", str(out), *flags]) == 2
    error = capfd.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_schedule_that_comes_too_late_is_noted(
    mapper: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "change.yaml").write_text(SCHEDULE)
    assert main(["run", str(mapper), "--schedule", str(tmp_path / "change.yaml"), "--steps", "8"]) == 0
    assert "nothing changes within 8 steps" in capfd.readouterr().err
