"""experts, mapper and adapt as a person uses them: real processes, what they leave behind, how they are stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from helpers.command_line import refused
from helpers.waiting import HANGS
from metamap_agents.experts.counts import TaskCounts
from metamap_agents.experts.filling import RecipeOverrides
from metamap_agents.experts.zoo import Zoo
from metamap_envs import Rollout, get_family
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.building.plan import BuildPlan
from metamap_rl.cli import app
from metamap_rl.cli.commands._expert_work import clock_of
from metamap_rl.cli.commands.mapper import EvaluateMapper
from metamap_rl.data.rollout_files import load_rollout, save_rollout
from metamap_rl.evaluation.evaluate import LENGTHS
from metamap_rl.mapper.mapper import Mapper

COUNTS = ("--train", "2", "--validation", "1", "--test-in", "2")
STEPS = ("--base-timesteps", "4096", "--timesteps", "1024")
PARAMETERS = ("--parameters", "goal_radius=0.1", "goal_angle=-1")


def metamap(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metamap_rl.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS)


def interrupted(ready: Callable[[], Any], *arguments: str | Path) -> tuple[int, str]:
    """Run a command, press Ctrl-C (which the whole group of processes gets) when `ready`; exit code and complaint."""
    command = [sys.executable, "-m", "metamap_rl.cli", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + HANGS
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=HANGS)
    return process.returncode, complaint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------ the whole path


@pytest.mark.slow
def test_the_whole_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo, mapper, out = tmp_path / "zoo", tmp_path / "mapper", tmp_path / "policy"

    done = metamap("experts", "train", "reacher-goal", "--out", zoo, *COUNTS, *STEPS, "--workers", "1")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[3:6]] == [
        ["train", "2"],
        ["validation", "1"],
        ["test-in", "2"],
    ]

    done = metamap(
        "mapper",
        "train",
        zoo,
        "--out",
        mapper,
        "--updates",
        "20",
        "--survey-tasks",
        "20",
        "--calibration-tasks",
        "8",
        "--json",
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert json.loads(done.stdout)["record"]["updates"] == 20
    assert names(tmp_path) == ["mapper", "zoo"], "the checkpoint is gone"
    assert names(mapper) == ["mapper.json", "mapper.safetensors"]

    report = tmp_path / "report.json"
    evaluate = ["mapper", "evaluate", str(mapper), "--zoo", str(zoo), "--steps", "0", "20", "--episodes", "2"]
    assert app.main([*evaluate, "--out", str(report)]) == 0
    table = capsys.readouterr().out
    for word in ("random actions", "base policy", "expert", "mapper", "shuffled", "mean-expert", "nearest-expert"):
        assert f"\n{word} " in table
    assert "gap closed: IQM [95 %]" in table
    document = json.loads(report.read_text())
    assert [entry["steps"] for entry in document["methods"]][:6] == [0, 20, 20, 20, None, 20]
    rivals = {entry["method"] for entry in document["methods"]} - {"mapper", "checked-mapper", "shuffled"}
    assert rivals >= {"nearest-expert", "likeliest-expert", "universal-policy", "estimate", "sysid"}
    assert document["methods"][2]["method"] == "checked-mapper"
    assert np.shape(document["methods"][1]["returns"]) == (1, 2)

    done = metamap("adapt", mapper, *PARAMETERS, "--steps", "30", "--out", out)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    for word in ("read       30 transitions", "base       return -", "served     return -", "goal_radius=0.1"):
        assert word in done.stdout
    assert names(out) == ["policy.safetensors", "policy.zip", "result.json", "rollout.safetensors"]
    assert names(tmp_path) == ["mapper", "policy", "report.json", "zoo"]
    result = json.loads((out / "result.json").read_text())
    assert (result["steps"], len(result["returns"]["base"])) == (30, 10)
    rollout = load_rollout(out / "rollout.safetensors")
    assert (len(rollout), rollout.task) == (30, get_family("reacher-goal").task({"goal_radius": 0.1, "goal_angle": -1}))
    policy = AdaptedPolicy.load(out / "policy.safetensors")

    check = "import sys, stable_baselines3 as sb3, numpy; model = sb3.PPO.load(sys.argv[1], device='cpu'); "
    check += "print(model.predict(numpy.ones(8), deterministic=True)[0].tolist(), 'metamap_rl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check, str(out / "policy.zip")], capture_output=True, text=True)
    actions, ours = done.stdout.rsplit(maxsplit=1)
    np.testing.assert_allclose(json.loads(actions), policy.predict(np.ones(8))[0], atol=1e-6)
    assert ours == "False"


def test_what_is_finished_is_gone_on_with(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = tmp_path / "zoo"
    train = ["experts", "train", "reacher-goal", "--out", str(zoo), *STEPS, "--workers", "1"]
    assert app.main([*train, "--train", "1", "--validation", "0", "--test-in", "0"]) == 0
    first = {path: path.read_bytes() for path in zoo.rglob("*.*") if "locks" not in path.parts}
    assert app.main([*train, "--train", "2", "--validation", "0", "--test-in", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    train_split = document["splits"]["train"]
    assert train_split["experts"] == 2
    assert train_split["better"] == sum(expert.better for expert in Zoo.open(zoo).experts("train"))
    assert all(path.read_bytes() == before for path, before in first.items())
    # Other settings are an error that names the setting, before anything is trained.
    other = [*train[:-2], "--timesteps", "2048"]
    complaint = refused(capsys, *other)
    assert all(part in complaint for part in ("n_timesteps", "1024", "2048")), complaint
    assert "seed 1, it is one of 'reacher-goal' with seed 0" in refused(capsys, *train, "--seed", "1")
    family = ["experts", "train", "cheetah-velocity", "--out", str(zoo)]
    assert "expected a zoo of 'cheetah-velocity'" in refused(capsys, *family)


def test_experts_list(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["experts", "list", str(tiny_zoo.root)]) == 0
    table = capsys.readouterr().out
    assert all(expert.task.id in table for expert in tiny_zoo.experts())
    assert "base return   expert return   seconds   better" in table
    assert app.main(["experts", "list", str(tiny_zoo.root), "--split", "test-in", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["experts"]
    experts = {expert.task.id: expert for expert in tiny_zoo.experts("test-in")}
    returns = {name: expert.returns.mean() for name, expert in experts.items()}
    assert {row["id"]: row["expert_return"] for row in rows} == pytest.approx(returns)
    assert [row["better"] for row in rows] == [experts[row["id"]].better for row in rows]
    Zoo.create(tmp_path / "empty", "reacher-goal", 0)
    assert app.main(["experts", "list", str(tmp_path / "empty")]) == 0
    assert "base policy is not trained" in capsys.readouterr().out


def test_an_expert_of_a_task_given_by_hand_is_listed(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo.create(tmp_path / "own", "reacher-goal", 0)
    zoo.put_base(tiny_zoo.base)
    zoo.put(replace(tiny_zoo.experts()[0], task=zoo.family.task({"goal_radius": 0.1})))
    assert app.main(["experts", "list", str(zoo.root)]) == 0
    assert "custom" in capsys.readouterr().out


def test_mapper_show(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["mapper", "show", "reacher-goal"]) == 0
    text = capsys.readouterr().out
    for word in (
        "4,866 weights of a tanh network 8 -> 64 -> 64 -> 2",
        "transitions of 20 numbers",
        "base-policy, noise 0.3",
        "experts of 3 tasks and a survey of 16 tasks without, loss both, seed 0",
        "torch ",
    ):
        assert word in text
    assert app.main(["mapper", "show", str(tiny_bundle / "reacher-goal"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"]["weights"] == 4866


def test_several_mappers_are_several_seeds(
    tiny_zoo: Zoo, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.make_mapper(tiny_zoo, seed=1).save(tmp_path / "other")
    words = ["mapper", "evaluate", "reacher-goal", str(tmp_path / "other"), "--zoo", str(tiny_zoo.root)]
    assert app.main([*words, "--steps", "5", "--episodes", "1", "--no-controls", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seeds"] == 2
    assert [entry["method"] for entry in document["methods"]] == ["mapper"]
    assert np.shape(document["methods"][0]["returns"]) == (2, 3)


def test_adapt_to_an_environment_and_to_a_rollout(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(*words: str) -> dict[str, Any]:
        assert app.main(["adapt", "reacher-goal", *words, "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    own = result("--env", "metamap_envs:MetaMap/ReacherGoal-v0", "--steps", "20", "--episodes", "2")
    assert (own["task"], own["steps"], len(own["returns"]["generated"])) == (None, 20, 2)
    task = result(*PARAMETERS, "--episodes", "2", "--out", str(tmp_path / "a"))
    assert task["steps"] == 50
    again = result("--rollout", str(tmp_path / "a" / "rollout.safetensors"), "--episodes", "2")
    assert {**again, "milliseconds": 0, "log": 0} == {**task, "milliseconds": 0, "log": 0}
    assert result("--rollout", str(tmp_path / "a" / "rollout.safetensors"), "--steps", "7")["steps"] == 7
    # Nobody knows the task of a user's own rollout: there is nothing to measure on.
    save_rollout(tmp_path / "own.safetensors", Rollout.from_rows("reacher-goal", []))
    empty = result("--rollout", str(tmp_path / "own.safetensors"))
    assert (empty["steps"], empty["distance"], empty["returns"]) == (0, 0.0, None)
    assert result(*PARAMETERS, "--episodes", "0")["returns"] is None
    assert app.main(["adapt", "reacher-goal", *PARAMETERS, "--episodes", "1"]) == 0
    assert "nothing was written; --out DIR keeps the policy" in capsys.readouterr().out
    assert not list(Path.cwd().iterdir())


def test_default_steps_are_the_protocol() -> None:
    assert EvaluateMapper(mappers=(), zoo=Path()).steps == LENGTHS


# --------------------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.slow
def test_experts_stopped_by_ctrl_c_go_on(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    words = ("experts", "train", "reacher-goal", "--out", zoo, "--workers", "2", *COUNTS, *STEPS)
    code, complaint = interrupted(lambda: list(zoo.glob("experts/*.json")), *words)
    assert (code, complaint) == (
        2,
        "metamap: stopped; what is finished is kept, the same command goes on from there\n",
    )
    kept = list(zoo.glob("experts/*.json"))
    assert kept
    assert not list(zoo.rglob("*.tmp"))
    before = {path: path.read_bytes() for path in kept}
    assert app.main([*map(str, words[:5]), "--workers", "1", *words[7:]]) == 0
    assert len(Zoo.open(zoo).experts()) == 5
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
def test_a_mapper_stopped_by_ctrl_c_goes_on_to_the_same_mapper(
    tiny_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process: bits depend on the number of torch's threads
    words = (
        "mapper",
        "train",
        str(tiny_zoo.root),
        "--updates",
        "200",
        "--checkpoint-every",
        "10",
        "--survey-tasks",
        "20",
        "--calibration-tasks",
        "0",
        "--out",
    )
    checkpoint = tmp_path / "a.checkpoint.safetensors"
    code, complaint = interrupted(checkpoint.exists, *words, tmp_path / "a")
    assert code == 2
    assert complaint.startswith("metamap: stopped; the last checkpoint is kept")
    assert names(tmp_path) == [checkpoint.name]
    assert "checkpoint of another run" in refused(capsys, *words, tmp_path / "a", "--seed", "1")
    assert app.main([*words, str(tmp_path / "a")]) == 0
    assert names(tmp_path) == ["a"]
    assert app.main([*words, str(tmp_path / "b")]) == 0
    weights = [(tmp_path / name / "mapper.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_nothing_is_half_written(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AdaptedPolicy, "save_sb3", stopped)
    words = ["adapt", "reacher-goal", *PARAMETERS, "--episodes", "0", "--out", str(tmp_path / "policy")]
    assert app.main(words) == 2
    assert capsys.readouterr().err == "metamap: stopped; nothing was written\n"
    assert names(tmp_path) == []
    monkeypatch.undo()
    (tmp_path / "policy").mkdir()
    monkeypatch.setattr("metamap_rl.adaptation.bundled.PRETRAINED", tiny_bundle)
    assert app.main(words) == 0, "an empty folder is no obstacle"
    assert len(names(tmp_path / "policy")) == 4


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["experts", "train", "reacher-gaol", "--out", "zoo"], ["unknown family", "did you mean 'reacher-goal'"]),
        (["experts", "train", "reacher-goal"], ["missing --out"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--train", "-1"], ["--train: expected", "got -1"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--workers", "-1"], ["--workers: expected"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--timesteps", "0"], ["n_timesteps", "got 0"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--change-rate", "2"], ["changes.rate", "got 2.0"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--wrong-starts", "-1"], ["wrong_starts", "got -1.0"]),
        (["experts", "train", "reacher-goal", "--out", "zoo", "--seed", "-1"], ["--seed: expected", "got -1"]),
        (["experts", "list", "nowhere"], ["nowhere is not a zoo"]),
        (["experts", "list", "nowhere", "--split", "tset-in"], ["did you mean 'test-in'"]),
        (["mapper", "train", "nowhere", "--out", "m"], ["nowhere is not a zoo"]),
        (["mapper", "train", "nowhere", "--out", "m", "--loss", "behavior"], ["did you mean 'behaviour'"]),
        (["mapper", "train", "nowhere", "--out", "m", "--probe", "base"], ["unknown probe 'base'"]),
        (["mapper", "train", "nowhere", "--out", "m", "--probe-settings", "nois=1"], ["did you mean 'noise'"]),
        (["mapper", "train", "nowhere", "--out", "m", "--probe-settings", "noise"], ["expected NAME=VALUE"]),
        (
            ["mapper", "train", "nowhere", "--out", "m", "--probe", "mixed", "--probe-settings", "block=5.0"],
            ["'block': expected a whole number in [1, 1000], got 5.0"],
        ),
        (["mapper", "train", "nowhere", "--out", "m", "--probe-settings", "noise=nan"], ["got nan"]),
        (["mapper", "train", "nowhere", "--out", "m", "--encoder", "poling"], ["did you mean 'pooling'"]),
        (["mapper", "train", "nowhere", "--out", "m", "--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["mapper", "train", "nowhere", "--out", "m", "--updates", "-1"], ["updates", ">= 0", "got -1"]),
        (["mapper", "train", "nowhere", "--out", "m", "--survey-tasks", "-1"], ["survey_tasks", ">= 0", "got -1"]),
        (["mapper", "train", "nowhere", "--out", "."], ["--out: expected the name of a new folder, got '.'"]),
        (["mapper", "show", "reacher-gaol"], ["no such folder", "did you mean 'reacher-goal'"]),
        (["mapper", "evaluate", "reacher-goal"], ["missing --zoo"]),
        (["mapper", "evaluate", "--zoo", "nowhere"], ["missing DIR"]),
        (["mapper", "evaluate", "reacher-goal", "--zoo", "nowhere"], ["nowhere is not a zoo"]),
        (["adapt", "reacher-goal"], ["--parameters", "--env", "--rollout", "got none of them"]),
        (["adapt", "reacher-goal", "--env", "a", "--rollout", "b"], ["got --env and --rollout"]),
        (["adapt", "reacher-goal", "--parameters", "goal_radus=0.1"], ["did you mean 'goal_radius'"]),
        (["adapt", "reacher-goal", "--parameters", "goal_radius=1"], ["expected a value in [0, 0.21] m", "got 1.0"]),
        (["adapt", "reacher-goal", "--parameters", "goal_radius=nan"], ["expected a finite number, got nan"]),
        (["adapt", "reacher-goal", "--parameters", "goal_radius=far"], ["expected a number", "got 'far'"]),
        (["adapt", "reacher-goal", "--parameters", "goal_radius=.1", "goal_radius=.1"], ["'goal_radius' twice"]),
        (["adapt", "reacher-goal", "--env", "Raecher-v5"], ["--env Raecher-v5: "]),
        (["adapt", "reacher-goal", "--env", "no_such_module:Env-v0"], ["--env no_such_module:Env-v0: "]),
        (["adapt", "reacher-goal", "--env", ":Env-v0"], ["--env :Env-v0: '' is not the name of a module"]),
        (["adapt", "reacher-goal", "--env", ".own:Env-v0"], ["'.own' is not the name of a module"]),
        (["adapt", "reacher-goal", "--seed", "2147483648"], ["--seed: expected a whole number in [0, 2147483647]"]),
        (["adapt", "reacher-goal", "--env", "MetaMap/CheetahVelocity-v0"], ["observations have shape (17,)"]),
        (["adapt", "reacher-goal", "--rollout", "nowhere.safetensors"], ["nowhere.safetensors: no such file"]),
        (["adapt", "reacher-goal", *PARAMETERS, "--steps", "-1"], ["steps", "at least 0", "got -1"]),
        (["adapt", "reacher-goal", *PARAMETERS, "--episodes", "-1"], ["--episodes: expected 0 or more"]),
        (["adapt", "reacher-goal", *PARAMETERS, "--steps", "many"], ["--steps: expected a whole number, got 'many'"]),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], parts: list[str], tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = refused(capsys, *words)
    assert all(part in complaint for part in parts), complaint
    assert not list(Path.cwd().iterdir()), "nothing is left behind"


def test_outputs_that_exist_are_refused(tiny_zoo: Zoo, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = Path("taken")
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    zoo = tiny_zoo.root
    assert "exists and is not a zoo" in refused(capsys, "experts", "train", "reacher-goal", "--out", taken)
    assert "already exists" in refused(capsys, "mapper", "train", zoo, "--out", taken)
    assert "already exists" in refused(capsys, "mapper", "evaluate", "reacher-goal", "--zoo", zoo, "--out", taken)
    assert "already exists" in refused(capsys, "adapt", "reacher-goal", *PARAMETERS, "--out", taken)
    assert names(taken) == ["thesis.txt"]


def test_damaged_and_foreign_artifacts_are_refused(
    tiny_zoo: Zoo, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    cheetah = Rollout.from_rows("cheetah-velocity", [])
    save_rollout(tmp_path / "cheetah.safetensors", cheetah)
    adapt = ("adapt", "reacher-goal", "--rollout")
    assert "truncated or something else" in refused(capsys, *adapt, tmp_path / "cut.safetensors")
    assert "of 'cheetah-velocity'" in refused(capsys, *adapt, tmp_path / "cheetah.safetensors")
    weights = tiny_bundle / "reacher-goal" / "mapper.safetensors"
    assert "no column for observations" in refused(capsys, *adapt, weights)
    assert "not a saved mapper" in refused(capsys, "mapper", "show", tiny_zoo.root)

    shutil.copytree(tiny_bundle / "reacher-goal", tmp_path / "broken")
    (tmp_path / "broken" / "mapper.safetensors").write_bytes(weights.read_bytes()[:1000])
    assert "truncated" in refused(capsys, "mapper", "show", tmp_path / "broken")

    other = Zoo.create(tmp_path / "zoo", "reacher-goal", 0)
    other.put_base(tiny_zoo.base)
    assert "has no test-in experts" in refused(capsys, "mapper", "evaluate", "reacher-goal", "--zoo", other.root)
    assert "has no train experts" in refused(capsys, "mapper", "train", other.root, "--out", tmp_path / "m")
    mapper = Mapper.load(tiny_bundle / "reacher-goal")
    object.__setattr__(mapper.base, "phi", mapper.base.phi + 1)
    mapper.save(tmp_path / "stranger")
    evaluate = ("mapper", "evaluate", tmp_path / "stranger", "--zoo", tiny_zoo.root)
    assert "was trained on another zoo" in refused(capsys, *evaluate)
    assert "lengths of D" in refused(capsys, "mapper", "evaluate", "reacher-goal", "--zoo", tiny_zoo.root, "--steps=-1")


def test_a_long_training_of_experts_is_estimated_with_its_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"base policy": 60.0, "universal policy": 30.0, "experts": 40.0}
    monkeypatch.setattr("metamap_rl.building.estimate.rehearse", lambda plan, on_part, *, mapper: dict(seconds))
    zoo = Zoo.create(tmp_path / "zoo", "reacher-goal", 0)
    plan = BuildPlan("reacher-goal", counts=TaskCounts(train=3, validation=0, test_in=0, test_out=0))
    clock = clock_of(zoo, plan, plan.counts.tasks(zoo))
    assert "estimate: 2 min 10 s at most (base policy 1 min 0 s," in capsys.readouterr().err
    clock.at("universal policy", 0, 30)
    assert 69.0 < clock.left <= 70.0
    short = replace(plan, overrides=RecipeOverrides(base={"n_timesteps": 4096}))
    assert clock_of(zoo, short, short.counts.tasks(zoo)).estimate == {}
    assert capsys.readouterr().err == "", "not worth a rehearsal"
