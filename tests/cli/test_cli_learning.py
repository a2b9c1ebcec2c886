"""`metamap mapper train` with what a mapper can be learned from besides: rounds, auxiliary losses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metamap_agents.experts.zoo import Zoo
from metamap_rl.cli import app
from metamap_rl.mapper.mapper import Mapper

QUICK = ("--updates", "12", "--survey-tasks", "8", "--calibration-tasks", "0")


def trained(zoo: Zoo, out: Path, *words: str) -> int:
    return app.main(["mapper", "train", str(zoo.root), "--out", str(out), *QUICK, *words, "--json"])


def test_rounds_and_auxiliary_losses(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--dagger-rounds", "2", "--auxiliary", "dynamics", "--auxiliary-coefficient", "0.5", "--aligned")
    assert trained(tiny_zoo, tmp_path / "m", *words) == 0
    config = json.loads(capsys.readouterr().out)["record"]["config"]
    assert (config["dagger_rounds"], config["auxiliary"], config["auxiliary_coefficient"]) == (2, "dynamics", 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert trained(tiny_zoo, tmp_path / "plain") == 0
    capsys.readouterr()
    one, two = (Mapper.load(tmp_path / name) for name in ("m", "plain"))
    assert one.arrays().keys() == two.arrays().keys()
    assert one.record["history"][-1]["validation"] != two.record["history"][-1]["validation"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--auxiliary", "dynamic"), "did you mean 'dynamics'"),
        (("--dagger-rounds", "-1"), "dagger_rounds: expected a whole number >= 0, got -1"),
        (("--tour", "somewhere"), "unknown setting 'tour' of probe 'base-policy'"),
        (("--probe", "seeking"), "the probe 'seeking' was removed"),
    ],
)
def test_a_slip_is_reported(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert trained(tiny_zoo, tmp_path / "m", *words) == 2
    assert message in capsys.readouterr().err


def test_a_mapper_gets_a_self_check_afterwards(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(tiny_zoo, tmp_path / "m", "--actors", "probe") == 0
    weights = Mapper.load(tmp_path / "m").arrays()
    quick = ("--calibration-tasks", "8", "--json")
    for words in (("--out", str(tmp_path / "probed")), ("--zoo", str(tiny_zoo.root))):
        capsys.readouterr()
        assert app.main(["mapper", "calibrate", str(tmp_path / "m"), *words, *quick]) == 0
        assert json.loads(capsys.readouterr().out)["check"] is not None
    mixed, probed = (Mapper.load(tmp_path / name) for name in ("m", "probed"))
    assert mixed.check is not None
    assert probed.check is not None
    assert not np.array_equal(mixed.check.surprise.mean, probed.check.surprise.mean), "D of other actors"
    for name, array in weights.items():
        np.testing.assert_array_equal(mixed.arrays()[name], array)
    assert app.main(["mapper", "calibrate", "cheetah-velocity"]) == 2  # a bundled one stays as it is
    assert app.main(["mapper", "calibrate", str(tmp_path / "m"), "--calibration-tasks", "0"]) == 2
    assert "--calibration-tasks: expected at least 4" in capsys.readouterr().err
    assert app.main(["mapper", "calibrate", str(tmp_path / "m"), "--zoo", str(tmp_path)]) == 2
