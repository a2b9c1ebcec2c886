"""`metamap rollout show|convert`, and `metamap adapt --rollout` on recordings of other formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.recordings import FAMILY, as_csv, as_npz, numbered, recorded, write_csv
from metamap_rl import AdaptedPolicy, load_rollout
from metamap_rl.cli import main


def test_a_recording_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(as_csv(recorded(), tmp_path))
    assert main(["rollout", "show", path, "--family", FAMILY]) == 0
    assert "70 transitions in 2 episodes" in capsys.readouterr().out
    assert main(["rollout", "show", path, "--mapper", FAMILY, "--units", "obs_2=57.3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(document["columns"]), document["transitions"], document["episodes"]] == [11, 70, 2]
    assert document["warnings"][0].startswith("obs_2 ")


def test_a_recording_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = recorded()
    columns = {f"robot {name}": values for name, values in numbered(rollout).items() if "next" not in name}
    path = write_csv(tmp_path / "log.csv", columns)
    roles = {"observations": "obs_*", "actions": "action_*", "rewards": "reward", "truncated": "truncated"}
    words = ["--columns", *(f"{role}=robot {name}" for role, name in roles.items())]
    assert main(["rollout", "convert", str(path), "--family", FAMILY, *words]) == 0
    assert "the last row of 2 episodes is left out" in capsys.readouterr().err
    found = load_rollout("log.safetensors")
    assert len(found) == 68
    np.testing.assert_array_equal(found.observations[:49], rollout.observations[:49])
    assert main(["rollout", "convert", str(path), "--family", FAMILY, *words]) == 2
    assert "already exists" in capsys.readouterr().err


def test_adapt_reads_a_recording_and_says_how_usual_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = recorded()
    csv, npz = as_csv(rollout, tmp_path), as_npz(rollout, tmp_path)
    for path, out in ((csv, "a"), (npz, "b")):
        assert main(["adapt", FAMILY, "--rollout", str(path), "--episodes", "0", "--out", str(tmp_path / out)]) == 0
        captured = capsys.readouterr()
        assert "11 of 11 are as in the mapper's training" in captured.out
        assert captured.err == ""
    policies = [AdaptedPolicy.load(tmp_path / out / "policy.safetensors") for out in "ab"]
    np.testing.assert_array_equal(policies[0].phi, policies[1].phi)


def test_what_looks_unusual_is_a_warning_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = as_csv(recorded(), tmp_path)
    assert main(["adapt", FAMILY, "--rollout", str(path), "--episodes", "0", "--units", "obs_2=1000"]) == 0
    captured = capsys.readouterr()
    assert "metamap: obs_2 seems 1,000 times too large" in captured.err
    assert "10 of 11 are as in the mapper's training" in captured.out


def test_structural_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = numbered(recorded())
    del columns["action_1"]
    path = str(write_csv(tmp_path / "log.csv", columns))
    for words in (
        ["adapt", FAMILY, "--rollout", path],
        ["adapt", "cheetah-velocity", "--rollout", path],
        ["rollout", "show", path, "--family", FAMILY],
        ["rollout", "show", path],
        ["rollout", "convert", path, "--mapper", FAMILY, "--family", "ant-goal"],
        ["rollout", "convert", path, "--mapper", FAMILY, "--out", str(tmp_path / "d.txt")],
        ["adapt", FAMILY, "--parameters", "goal_angle=1", "--columns", "observations=x"],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1
    assert {each.name for each in tmp_path.iterdir()} == {"log.csv"}
