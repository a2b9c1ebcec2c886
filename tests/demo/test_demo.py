"""`metamap demo`: what it prints, writes and refuses, with a bundle that was trained for a moment."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.adaptation.bundled import save_experts
from metamap_rl.cli import main
from metamap_rl.demo import demo
from metamap_rl.demo.folder import Settings, claim_folder
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import CalibrationConfig
from metamap_rl.viz.reels import record_reel

FILES = {"demo.json", "results.json", "return.png", "return.svg"}
SCRATCH = [
    *("--from-scratch", "--train", "2", "--validation", "1", "--test-in", "2"),
    *("--base-timesteps", "4096", "--timesteps", "1024", "--updates", "5", "--no-video", "--seed", "3"),
]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def measured(tiny_zoo: Zoo, tiny_mapper: Mapper) -> demo.Measured:
    return demo.measure(demo.Subject(tiny.moved(tiny_mapper), tuple(tiny_zoo.experts("test-in"))))


# ------------------------------------------------------------------------------------------------ bundled mappers


@pytest.mark.usefixtures("tiny_bundle")
def test_the_demo_shows_a_table_and_writes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    for heading in ("reacher-goal", "base policy", "0 steps", "200 steps", "expert", "gap closed at 50", "ms to map"):
        assert heading in done.out
    assert len(re.findall(r"goal_radius=\S+ goal_angle=", done.out)) == 3
    folder = Path("runs", "demo")
    assert names(folder) == FILES | {"reacher-goal.mp4"}
    assert str(folder) in done.out
    assert all(name in done.out for name in FILES - {"demo.json"})
    assert (folder / "reacher-goal.mp4").stat().st_size > 10_000
    document = json.loads((folder / "results.json").read_text())
    video = document["families"][0]["video"]
    assert video["path"] == "reacher-goal.mp4"
    assert len(video["returns"]) == 3

    # Once more, without videos: the default folder is the demo's own, and nothing of the last one is left in it.
    assert main(["demo", "--no-video", "--tasks", "1"]) == 0
    assert names(folder) == FILES
    assert json.loads((folder / "results.json").read_text())["families"][0]["video"] is None


@pytest.mark.usefixtures("tiny_bundle")
def test_json_holds_every_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["demo", "--json", "--no-video", "--tasks", "2", "--seed", "1", "--out", str(out)]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "results.json").read_text())
    assert document["settings"]["seed"] == 1
    assert document["files"] == ["return.png", "return.svg", "results.json"]
    (family,) = document["families"]
    evaluation = family["evaluation"]
    assert evaluation["episodes"] == 10
    assert [task["split"] for task in evaluation["tasks"]] == ["test-in"] * 2
    assert len(family["tasks"]) == 2
    for index, row in enumerate(family["tasks"]):
        assert row["base"] == evaluation["base_returns"][index]
        assert row["expert"] == evaluation["expert_returns"][index]
        assert list(row["generated"]) == ["0", "20", "50", "200"]
        assert row["generated"]["0"] == pytest.approx(row["base"], rel=1e-5)
        assert 0 < row["milliseconds"] < 1000
        if row["gap_closed"] is not None:
            gap = (row["generated"]["50"] - row["base"]) / (row["expert"] - row["base"])
            assert row["gap_closed"] == pytest.approx(gap)


def test_the_same_seed_draws_the_same_tasks_and_gives_the_same_numbers(
    measured: demo.Measured, tiny_bundle: Path
) -> None:
    first, again = (demo.bundled_subjects([], 2, 0)[0] for _ in range(2))
    assert [expert.task for expert in first.experts] == [expert.task for expert in again.experts]
    assert any(
        {expert.task for expert in first.experts}
        != {expert.task for expert in demo.bundled_subjects([], 2, s)[0].experts}
        for s in range(1, 8)
    )
    repeated = demo.measure(measured.subject)
    assert [replace(row, milliseconds=0.0) for row in repeated.rows] == [
        replace(row, milliseconds=0.0) for row in measured.rows
    ]


def test_the_film_is_of_the_task_with_the_largest_gap(measured: demo.Measured, tmp_path: Path) -> None:
    video = demo.film(measured, tmp_path, renderer="planar")
    assert (video.path, video.renderer) == (tmp_path / "reacher-goal.mp4", "planar")
    evaluation = measured.evaluation
    expert = measured.subject.experts[int(np.argmax(evaluation.expert - evaluation.base))]
    policy = BatchedPolicy(measured.subject.mapper.base.policies(expert.phi[None]))
    family = get_family(expert.task.family)
    run = record_reel(
        expert.task, lambda seen: policy(seen[None, None])[0, 0], seed=EVALUATION_SEED, steps=6 * family.horizon
    )
    assert video.returns[2] == pytest.approx(run.rewards.sum(), rel=1e-3)


def test_what_would_not_be_served_is_measured_and_filmed_and_said(
    tiny_zoo: Zoo, tiny_mapper: Mapper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapper = tiny.moved(tiny_mapper)
    config = CalibrationConfig(
        lengths=(1, 20), usual_tasks=8, return_tasks=2, harm_tasks=2, episodes=2, hidden=4, updates=2
    )
    mapper.check = replace(calibrate(mapper, config), least_steps=None)
    found = demo.measure(demo.Subject(mapper, tuple(tiny_zoo.experts("test-in"))))
    assert [row.unserved for row in found.rows] == [(20, 50, 200)] * 3
    assert not np.array_equal(found.policy(0, 50).phi, mapper.base.phi)

    mapper.save(tmp_path / "bundles" / tiny.FAMILY)
    save_experts(tmp_path / "bundles" / tiny.FAMILY, tiny_zoo.experts("test-in"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metamap_rl.adaptation.bundled.PRETRAINED", tmp_path / "bundles")
        assert main(["demo", "--no-video", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"-\d+\.\d\*", out)) == 9
    assert re.search(r"\*: .*`adapt` serves the base policy", out)


def test_every_method_is_announced(measured: demo.Measured) -> None:
    seen: list[str] = []
    demo.measure(measured.subject, seen.append)
    assert seen[:2] == ["references", "mapper"]
    assert "shuffled" in seen


@pytest.mark.usefixtures("tiny_bundle")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--family", "cheetah-velocity"], ["no mapper is bundled for 'cheetah-velocity'", "reacher-goal"]),
        (["--family", "reacher-gaol"], ["unknown family 'reacher-gaol'", "did you mean 'reacher-goal'"]),
        (["--tasks", "4"], ["experts of 3 unseen tasks are bundled, 4 were asked for"]),
        (["--tasks", "0"], ["0 were asked for"]),
        (["--train", "5"], ["--train counts only together with --from-scratch"]),
        (["--from-scratch", "--family", "reacher-goal", "cheetah-velocity"], ["--from-scratch takes one family"]),
        (["--from-scratch", "--timesteps", "0"], ["--timesteps: expected at least 1, got 0"]),
        (["--from-scratch", "--test-in", "0"], ["--test-in: expected at least 1, got 0"]),
        (["--from-scratch", "--family", "reacher-gaol"], ["did you mean 'reacher-goal'"]),
        (["--out", "taken"], ["taken: already exists"]),
        (["--from-scratch", "--out", "taken"], ["taken: already exists"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    Path("taken", "mine.txt").write_text("mine")
    assert main(["demo", *arguments]) == 2
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert all(part in done.err for part in parts), done.err
    assert names(Path()) == {"taken"}
    assert names(Path("taken")) == {"mine.txt"}


def test_without_any_bundle_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("metamap_rl.adaptation.bundled.PRETRAINED", tmp_path)
    assert main(["demo"]) == 2
    assert "no mapper is bundled with this installation" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_bundle")
def test_a_video_that_fails_does_not_spoil_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/missing")
    assert main(["demo", "--tasks", "1"]) == 0
    assert "no video of reacher-goal: " in capsys.readouterr().err
    assert names(Path("runs", "demo")) == FILES


def test_a_demo_takes_its_own_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(("reacher-goal",), 0, 3)
    default = claim_folder(None, settings)
    assert default == Path("runs", "demo")
    assert claim_folder(None, settings) == default
    out = tmp_path / "out"
    claim_folder(out, settings)
    claim_folder(out, settings)  # one that was stopped before it had a result
    (out / "results.json").write_text("{}")
    with pytest.raises(MetaMapError, match="already exists"):
        claim_folder(out, settings)
    (default / "demo.json").unlink()
    (default / "mine.txt").write_text("mine")
    with pytest.raises(MetaMapError, match="already exists"):
        claim_folder(None, settings)
    for text in ('{"format": "other"}', '{"format": "metamap-demo-1"}'):
        (default / "demo.json").write_text(text)
        with pytest.raises(MetaMapError, match="not written by this version's demo"):
            claim_folder(None, settings)


# --------------------------------------------------------------------------------------------------- from scratch


def test_from_scratch_trains_all_and_goes_on_where_it_stopped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Experts are trained in this process, and the survey is small: both are shown elsewhere.
    monkeypatch.setattr(demo, "BuildPlan", partial(demo.BuildPlan, workers=1))
    monkeypatch.setattr(demo, "MapperRecipe", partial(demo.MapperRecipe, survey_tasks=8))
    out = tmp_path / "scratch"
    assert main(["demo", *SCRATCH, "--json", "--out", str(out)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert names(out) == FILES | {"zoo", "mapper"}
    assert [len(Zoo.open(out / "zoo").experts(split)) for split in ("train", "validation", "test-in")] == [2, 1, 2]
    assert len(first["families"][0]["tasks"]) == 2
    assert Mapper.load(out / "mapper").record["updates"] == 5

    # As if it had been stopped while the last expert was being trained.
    stages: list[tuple[str, int, int]] = []
    zoo = Zoo.open(out / "zoo")
    (kept, lost) = zoo.experts("test-in")
    before = (zoo.root / "experts" / f"{kept.task.id}.json").stat().st_mtime_ns
    (zoo.root / "experts" / f"{lost.task.id}.json").unlink()
    (out / "mapper" / "mapper.json").unlink()
    settings = Settings(
        ("reacher-goal",),
        3,
        2,
        True,
        train=2,
        validation=1,
        test_in=2,
        base_timesteps=4096,
        timesteps=1024,
        updates=5,
    )
    assert claim_folder(out, settings) == out
    subject = demo.train_subject(out, settings, lambda *stage: stages.append(stage))
    assert (zoo.root / "experts" / f"{kept.task.id}.json").stat().st_mtime_ns == before
    assert (zoo.get(lost.task).phi == lost.phi).all()
    assert stages[:2] == [("experts", 0, 1), ("experts", 1, 1)]
    assert stages[2:4] == [("rollouts", 0, 1), ("mapper", 1, 5)]
    assert {expert.task for expert in subject.experts} == {kept.task, lost.task}

    (zoo.root / "experts" / f"{lost.task.id}.json").rename(tmp_path / "lost.json")
    with zoo.claim(lost.task.id), pytest.raises(MetaMapError, match="another process is training 1 of the experts"):
        demo.train_subject(out, settings)
    (tmp_path / "lost.json").rename(zoo.root / "experts" / f"{lost.task.id}.json")

    assert main(["demo", *SCRATCH, "--json", "--out", str(out)]) == 0
    again = json.loads(capsys.readouterr().out)
    for rows in (first["families"][0]["tasks"], again["families"][0]["tasks"]):
        for row in rows:
            row.pop("milliseconds")
    assert again["families"] == first["families"]

    assert main(["demo", *SCRATCH, "--out", str(out), "--train", "3"]) == 2
    assert "holds a demo with train = 2, asked for is 3" in capsys.readouterr().err
