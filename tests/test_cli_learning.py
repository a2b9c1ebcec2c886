"""`metamap mapper train` with what a mapper can be learned from besides: rounds, auxiliary losses, members."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metamap_agents.zoo import Zoo
from metamap_envs import MetaMapError
from metamap_rl.cli import app
from metamap_rl.ensemble import Ensemble
from metamap_rl.mapper import Mapper
from metamap_rl.train import TrainConfig
from metamap_rl.workflow import train_ensemble, train_mapper

QUICK = ("--updates", "12", "--survey-tasks", "8", "--calibration-tasks", "0")
SCRIPTS = Path(__file__).parent.parent / "scripts"


def trained(zoo: Zoo, out: Path, *words: str) -> int:
    return app.main(["mapper", "train", str(zoo.root), "--out", str(out), *QUICK, *words, "--json"])


def test_rounds_and_auxiliary_losses(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--rounds", "2", "--auxiliary", "dynamics", "--auxiliary-coefficient", "0.5", "--aligned")
    assert trained(tiny_zoo, tmp_path / "m", *words) == 0
    config = json.loads(capsys.readouterr().out)["record"]["config"]
    assert (config["rounds"], config["auxiliary"], config["auxiliary_coefficient"]) == (2, "dynamics", 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert trained(tiny_zoo, tmp_path / "plain") == 0
    capsys.readouterr()
    one, two = (Mapper.load(tmp_path / name) for name in ("m", "plain"))
    assert one.arrays().keys() == two.arrays().keys()
    assert one.record["history"][-1]["validation"] != two.record["history"][-1]["validation"]


def test_several_members_are_an_ensemble(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(tiny_zoo, tmp_path / "e", "--members", "2", "--seed", "3") == 0
    members = json.loads(capsys.readouterr().out)["members"]
    assert [member["record"]["config"]["seed"] for member in members] == [3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    ensemble = Ensemble.load(tmp_path / "e")
    assert trained(tiny_zoo, tmp_path / "one", "--seed", "4") == 0
    alone = Mapper.load(tmp_path / "one").arrays()
    assert all(np.array_equal(alone[name], array) for name, array in ensemble.members[1].arrays().items())
    out = tmp_path / "measured.json"
    words = [tmp_path / "e", "--zoo", tiny_zoo.root, "--lengths", 5, 20, "--episodes", 1, "--out", out]
    finished = subprocess.run(
        [sys.executable, str(SCRIPTS / "measure_ensemble.py"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert [row["steps"] for row in json.loads(out.read_text())["lengths"]] == [5, 20]
    assert app.main(["mapper", "show", str(tmp_path / "e")]) == 2
    assert "an ensemble; name one of the mappers in it" in capsys.readouterr().err


class StoppedError(Exception):
    pass


def test_a_stopped_ensemble_goes_on_to_the_same(tiny_zoo: Zoo, tmp_path: Path) -> None:
    config = TrainConfig(steps=8, warmup=2, batch_tasks=3, states_per_task=8, checkpoint_every=4, rounds=1)
    files = [tmp_path / f"{index}.safetensors" for index in range(2)]
    done: list[int] = []

    def stop(update: int, total: int, metrics: object) -> None:
        assert total == 16
        done.append(update)
        if update == 14:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_ensemble(tiny_zoo, 2, config=config, survey_tasks=0, checkpoints=files, on_update=stop)
    assert done == list(range(1, 15))
    resumed = train_ensemble(tiny_zoo, 2, config=config, survey_tasks=0, checkpoints=files)
    for index, member in enumerate(resumed.members):
        alone = TrainConfig(**{**vars(config), "seed": index})
        whole = train_mapper(tiny_zoo, config=alone, survey_tasks=0, calibration=None).arrays()
        assert all(np.array_equal(whole[name], array) for name, array in member.arrays().items())
    with pytest.raises(MetaMapError, match="number of members must be 1 or more, got 0"):
        train_ensemble(tiny_zoo, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--members", "0"), "--members expects 1 or more, got 0"),
        (("--auxiliary", "dynamic"), "did you mean 'dynamics'"),
        (("--rounds", "-1"), "rounds: expected >= 0, got -1"),
        (("--tour", "somewhere"), "unknown setting of probe 'base-policy' 'tour'"),
        (("--probe", "seeking"), "the probe 'seeking' was removed"),
    ],
)
def test_a_slip_is_told(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert trained(tiny_zoo, tmp_path / "m", *words) == 2
    assert message in capsys.readouterr().err
