"""Recordings of users' own become rollouts as docs/rollouts.md says, and common slips are told with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from metamap_envs import MetaMapError, Rollout
from metamap_rl import load_rollout
from metamap_rl.cli.app import main

PAGE = Path(__file__).parents[2] / "docs" / "rollouts.md"
SEEN, ACTIONS, REWARDS, FLAGS = np.zeros((6, 17)), np.zeros((5, 6)), np.zeros(5), np.zeros(5, bool)


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})  # of this repository
    rollout = load_rollout("d.safetensors")
    assert (rollout.family, len(rollout), rollout.task) == ("cheetah-velocity", 50, None)
    np.testing.assert_array_equal(rollout.observations[1:], rollout.next_observations[:-1])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((SEEN, ACTIONS, REWARDS, SEEN[1:], FLAGS, FLAGS), r"got \(6, 17\): one row too many; .*observations\[:-1\]"),
        ((SEEN[:-1], ACTIONS, REWARDS[:, None], SEEN[1:], FLAGS, FLAGS), r"got \(5, 1\): give rewards\[\.\.\., 0\]"),
        ((SEEN[:-1], ACTIONS.T, REWARDS, SEEN[1:], FLAGS, FLAGS), r"got \(6, 5\): give actions\.T"),
        ((SEEN[:-1], ACTIONS, REWARDS, SEEN[1:], FLAGS.astype(int), FLAGS), r"terminated\.astype\(bool\)"),
        ((SEEN[:-1], ACTIONS, REWARDS, SEEN[1:], FLAGS, FLAGS + 2), r"truncated expected bool, got int64$"),
    ],
)
def test_slips_are_reported_with_what_to_do(arrays: tuple[np.ndarray, ...], words: str) -> None:
    with pytest.raises(MetaMapError, match=words):
        Rollout("cheetah-velocity", *arrays)


@pytest.mark.parametrize("name", ["recorded.npz", "recorded.csv", "recorded.hdf5", "recorded"])
def test_errors_on_empty_files_are_one_sentence(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).touch()
    assert main(["adapt", "cheetah-velocity", "--rollout", str(tmp_path / name)]) == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert name in told
    with pytest.raises(MetaMapError, match="metamap rollout convert"):
        load_rollout(tmp_path / name)
