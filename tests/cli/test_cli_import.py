"""`metamap experts import`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from stable_baselines3 import PPO, SAC

from helpers.command_line import output, refused
from helpers.foreign import OBSERVATIONS, sb3_model
from helpers.tiny import FAMILY
from metamap_agents.experts.zoo import Zoo

SMALL = ("--rounds", "0", "--states", "200", "--updates", "10", "--episodes", "10")


@pytest.fixture
def zoo(tmp_path: Path, tiny_zoo: Zoo) -> Path:
    return Path(shutil.copytree(tiny_zoo.root, tmp_path / "zoo"))


def test_a_policy_becomes_an_expert(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sb3_model(SAC).save("sac.zip")
    words = ("experts", "import", "sac.zip", "--zoo", zoo, "--parameters", "goal_radius=0.1", *SMALL)
    document = json.loads(output(capsys, *words, "--json"))
    imported = document["record"]["imported"]
    assert [imported["method"], document["split"], document["imported"]] == ["distil", "train", imported["kind"]]
    rows = json.loads(output(capsys, "experts", "list", zoo, "--json"))["experts"]
    assert imported["kind"] in {row["imported"] for row in rows}
    assert "--replace" in refused(capsys, *words)
    by_id = ("experts", "import", "sac.zip", "--zoo", zoo, "--task", document["id"], *SMALL)
    assert "--replace" in refused(capsys, *by_id)
    printed = output(capsys, *by_id, "--replace")
    assert f"{document['id']}.json" in printed
    assert "squashed by tanh" in printed


def test_a_new_zoo_is_made_with_its_base_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sb3_model(PPO).save("ppo.zip")
    words = ("experts", "import", "ppo.zip", "--zoo", tmp_path / "new", "--parameters", "goal_radius=0.1", *SMALL)
    assert "--family FAMILY makes it" in refused(capsys, *words)
    assert not (tmp_path / "new").exists()
    more = ("--family", FAMILY, "--base-timesteps", "4096")
    assert "weights taken over" in output(capsys, *words, *more)
    assert len(Zoo.open(tmp_path / "new").experts("train")) == 1


def test_what_cannot_be_imported_writes_nothing(tmp_path: Path, zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sb3_model(PPO).save("ppo.zip")
    Path("cut.zip").write_bytes(Path("ppo.zip").read_bytes()[:500])
    before = sorted(path.name for path in zoo.rglob("*"))
    start, given = ("experts", "import"), ("--parameters", "goal_radius=0.1")
    assert "cut.zip" in refused(capsys, *start, "cut.zip", "--zoo", zoo, *given)
    assert "expected one of --parameters" in refused(capsys, *start, "ppo.zip", "--zoo", zoo)
    assert "both" in refused(capsys, *start, "ppo.zip", "--zoo", zoo, *given, "--task", "a")
    assert "did you mean 'goal_radius'" in refused(
        capsys, *start, "ppo.zip", "--zoo", zoo, "--parameters", "goal_radus=1"
    )
    assert "it is one of" in refused(capsys, *start, "ppo.zip", "--zoo", zoo, *given, "--family", "pendulum-swingup")
    assert "range of actions" in refused(capsys, *start, "ppo.zip", "--zoo", zoo, *given, "--action-range", "2", "-2")
    other = ("--family", "pendulum-swingup", "--parameters", "mass=1")
    assert f"{OBSERVATIONS} observations" in refused(capsys, *start, "ppo.zip", "--zoo", tmp_path / "new", *other)
    assert sorted(path.name for path in zoo.rglob("*")) == before
    assert not (tmp_path / "new").exists()
