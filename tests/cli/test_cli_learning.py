"""`metamap mapper train` with what a mapper can be learned from besides: rounds, auxiliary losses."""

from __future__ import annotations

import json
from pathlib import Path

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
