"""Families declared in YAML: training, workers, mappers and the command line take them as any other."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import tiny
from helpers.user_envs import declare
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base
from metamap_envs import (
    Rollout,
    Task,
    declared_families,
    get_family,
    list_families,
    load_family,
    registry,
)
from metamap_rl.cli import main

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


FOLDER = Path(registry.__file__).parent / "from_gymnasium" / "examples"


EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yml"))


SWING = """
name: test-swing
environment: Pendulum-v1
parameters:
  gravity: {argument: g, train: [5, 15]}
"""


def test_training_and_rollouts_take_it() -> None:
    recipe = load_recipe("cartpole-length", "base", **tiny.SETTINGS)
    base = train_base("cartpole-length", recipe, seed=0)
    assert base.spec.observation_size == 4
    Rollout("cartpole-length", *(np.zeros(shape) for shape in ((1, 4), (1, 1), (1,), (1, 4))), *[np.zeros(1, bool)] * 2)


def test_the_command_line_takes_the_path_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    assert main(["families", "show", str(path), "--sample", "2"]) == 0
    shown = capsys.readouterr().out
    assert "test-swing" in shown
    assert "[5, 15]" in shown
    assert main(["families", "show", "test-swng"]) == 2
    assert "did you mean 'test-swing'" in capsys.readouterr().err


def test_processes_started_later_find_a_loaded_file(tmp_path: Path) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    family = load_family(path)
    assert family is load_family(path) is get_family("test-swing") is pickle.loads(pickle.dumps(family))  # noqa: S301
    assert os.environ[registry.VARIABLE] == str(path)
    code = "from metamap_envs import get_family; print(get_family('test-swing').task({'gravity': 6}).id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == family.task({"gravity": 6}).id


@pytest.mark.slow
def test_a_zoo_by_workers_a_mapper_and_its_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    settings = tiny.SETTINGS
    counts = TaskCounts(train=3, validation=2, test_in=2, test_out=0)
    zoo = fill_zoo(
        tmp_path / "zoo",
        load_family(path).name,
        counts,
        seed=0,
        workers=2,
        overrides=RecipeOverrides(settings, settings),
    )
    assert zoo.family is get_family("test-swing")
    tiny.make_mapper(zoo).save(tmp_path / "mapper")
    assert main(["adapt", str(tmp_path / "mapper"), "--parameters", "gravity=7", "--episodes", "1"]) == 0
    folders = [str(tmp_path / "mapper"), "--zoo", str(tmp_path / "zoo")]
    assert main(["mapper", "evaluate", *folders, "--episodes", "1", "--steps", "5", "--no-controls"]) == 0
    assert "base policy" in capsys.readouterr().out


def test_the_registry_of_the_package_stays_as_it_is() -> None:
    declare(argument="g", train=[5, 15])
    assert set(declared_families()) == {"test", *EXAMPLES}
    assert "test" not in list_families()
    assert Task.from_json(get_family("test").task().to_json()) == get_family("test").task()


def test_nothing_heavy_is_imported_before_a_family_is_declared() -> None:
    code = "import sys, metamap_envs; print({'yaml', 'pydantic', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_reading_the_half_cheetah_prints_nothing_and_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    family = declare("gymnasium:HalfCheetah-v5", body="torso", field="mass", how="scale", train=[0.5, 1.5])
    np.testing.assert_allclose(family.model(family.task()).body_mass.sum(), 14.0)
    assert (family.base_id, family.frame_skip, family.embodiment) == ("HalfCheetah-v5", 5, "halfcheetah-v5")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
