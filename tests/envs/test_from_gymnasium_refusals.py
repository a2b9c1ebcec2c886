"""Families declared in YAML: what is refused, in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from helpers.user_envs import declare
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import save_arrays
from metamap_envs import (
    FamilyEnv,
    MetaMapError,
    Task,
    from_gymnasium,
    get_family,
    load_family,
)
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.from_gymnasium import building
from metamap_rl.data.rollout_files import load_rollout

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


SWING = """
name: test-swing
environment: Pendulum-v1
parameters:
  gravity: {argument: g, train: [5, 15]}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not YAML"),
        ("[]", "expected a mapping"),
        (
            SWING.replace("environment", "enviroment"),
            "unknown key 'enviroment': did you mean 'environment'",
        ),
        (
            SWING.replace("train", "trian"),
            "unknown key 'parameters.gravity.trian': did you mean 'parameters.gravity.train'",
        ),
        (SWING.replace("test-swing", "Test Swing"), "name: string should match"),
        (SWING.replace("Pendulum-v1", "Pendulm-v1"), "unknown Gymnasium environment 'Pendulm-v1': did you mean 'Pend"),
        (SWING.replace("argument: g", "argument: gg"), "unknown argument of the environment's constructor 'gg'"),
        (SWING.replace("argument: g", "attribute: max_sped"), "did you mean 'max_speed'"),
        (SWING.replace("argument: g", "argument: g, attribute: l"), "got argument and attribute"),
        (SWING.replace("argument: g,", ""), "needs one of body, joint.*got none of them"),
        (SWING.replace("argument: g", "body: pole"), "the target 'body' needs a field"),
        (SWING.replace("argument: g", "argument: g, field: mass"), "'argument' has no field of its own"),
        (SWING.replace("argument: g", "argument: g, index: 1"), "index belongs to MuJoCo's fields"),
        (SWING.replace("argument: g", "option: gravity"), "needs a MuJoCo model, which this environment has not"),
        (SWING.replace("[5, 15]", "[15, 5]"), r"expected an interval \[low, high\], got \[15.0, 5.0\]"),
        (SWING.replace("[5, 15]", "[5, 15], low: 6"), r"interval \[5.0, 15.0\] leaves its bounds \[6.0, 15.0\]"),
        (SWING.replace("[5, 15]", "much"), "parameters.gravity.train: .*got 'much'"),
        (SWING + "  again: {argument: g, how: scale, train: [1, 2]}", "'gravity' and 'again' write the same thing"),
        (SWING.replace("argument: g", "argument: g, how: scale") + "arguments: {g: 0}", "changes nothing, as it is 0"),
        (SWING.replace("[5, 15]", "[true, 15]"), "parameters.gravity.train.*expected a number, got True"),
        (SWING.replace("[5, 15]", "[5, 15], default: true"), "parameters.gravity.default: expected a number, got True"),
        (SWING + "version: true", "version: expected a number, got True"),
        (SWING + "horizon: true", "horizon: expected a number, got True"),
        (SWING.replace("gravity:", "'gra vity':"), "parameters: expected names without spaces and '='.*got 'gra vity'"),
        (SWING.replace("gravity:", "a=b:"), "parameters: expected names without spaces and '='.*got 'a=b'"),
        (SWING.replace("gravity:", "'':"), "parameters: expected names without spaces and '='.*got ''"),
        (SWING + "arguments: {h: 1}", "unknown argument of the constructor 'h'"),
        (SWING.replace("test-swing", "cheetah-velocity"), "is part of the package"),
        (SWING.replace("Pendulum-v1", "'not a module:Pendulum-v1'"), "is not the name of a module"),
        (SWING.replace("Pendulum-v1", "nowhere_at_all:Pendulum-v1"), "No module named 'nowhere_at_all'"),
        (
            SWING.replace("Pendulum-v1", "Blackjack-v1").replace(
                "argument: g, train: [5, 15]", "argument: sab, choices: [0, 1]"
            )
            + "horizon: 9",
            "type Box, or Dict of Boxes, got Tuple",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "family.yml"
    path.write_text(text)
    with pytest.raises(MetaMapError, match=expected) as caught:
        load_family(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"body": "torzo", "field": "mass"}, "unknown body 'torzo': did you mean 'torso'"),
        ({"actuator": "leg", "field": "gear", "index": 0}, "unknown actuator 'leg': did you mean 'leg_joint'"),
        ({"geom": "foot_geom", "field": "size"}, "unknown field 'size' of the target 'geom'"),
        ({"option": "gravty"}, "did you mean 'gravity'"),
        ({"option": "gravity"}, "'gravity' has 3 elements; declare which with index"),
        ({"option": "gravity", "index": 3}, "index: expected 0 to 2"),
        ({"body": "*", "field": "mass"}, "declare how: scale"),
        ({"body": "world", "field": "mass"}, "has no mass"),
        ({"joint": "rootx", "field": "damping", "how": "scale"}, "changes nothing, as it is 0"),
    ],
)
def test_what_is_wrong_about_mujoco_is_reported(entry: dict[str, object], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected):
        declare("Walker2d-v5", **entry, train=[0.5, 2.0])


@pytest.mark.parametrize(
    ("entry", "train", "expected"),
    [
        ({"body": "torso", "field": "mass"}, [-1, 2], "'mass': expected values above 0, got -1"),
        (
            {"body": "torso", "field": "mass", "how": "scale"},
            [0, 2],
            "a factor on 'mass': expected values above 0",
        ),
        ({"joint": "leg_joint", "field": "damping"}, [-0.5, 2], "'damping': expected values of 0 or more"),
        ({"option": "timestep"}, [0, 0.01], "'timestep': expected values above 0"),
    ],
)
def test_values_that_no_model_has_are_refused(entry: dict[str, object], train: list[float], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected):
        declare("Walker2d-v5", **entry, train=train)
    declare("Walker2d-v5", joint="leg_joint", field="damping", train=[0, 2])


def test_an_environment_without_what_it_needs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(**_: object) -> None:
        raise gym.error.DependencyNotInstalled("Box2D is not installed,\nrun pip")

    monkeypatch.setattr(building, "creator_of", lambda spec: lacking())
    with pytest.raises(MetaMapError, match="environment 'Pendulum-v1': Box2D is not installed, run pip"):
        declare(argument="g", train=[5, 15])


def test_names_and_embodiments_must_not_clash() -> None:
    declare(argument="g", train=[5, 15])
    with pytest.raises(MetaMapError, match="declared already, with other contents"):
        declare(argument="g", train=[5, 16])
    document = {"name": "other", "environment": "CartPole-v1", "embodiment": "pendulum-v1"}
    with pytest.raises(MetaMapError, match="declare another embodiment"):
        from_gymnasium({**document, "parameters": {"p": {"attribute": "length", "train": [0, 1]}}})
    with pytest.raises(MetaMapError, match="no such file"):
        load_family("missing.yml")
    document = {"environment": "Pendulum-v1", "parameters": {"p": {"argument": "g", "train": [1, 2]}}}
    from_gymnasium({"name": "test-2", **document})
    with pytest.raises(MetaMapError, match="Gymnasium id MetaMap/Test2-v0 is that of 'test-2'"):
        from_gymnasium({"name": "test2", **document})


def test_no_stored_name_makes_a_file_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a family may import a module: only who names the file means that."""
    (tmp_path / "swing.yml").write_text(SWING.replace("Pendulum-v1", "this:Pendulum-v1"))
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path)
    arrays = {name: np.zeros(shape) for name, shape in (("observations", (1, 3)), ("actions", (1, 1)))}
    arrays |= {name: np.zeros(1) for name in ("rewards", "terminated", "truncated")}
    about = {"format": "metamap-rollout-1", "about": '{"family": "swing.yml", "task": null}'}
    save_arrays(tmp_path / "d.safetensors", arrays | {"next_observations": np.zeros((1, 3))}, about)
    for read in (
        lambda: get_family("swing.yml"),
        lambda: load_rollout(tmp_path / "d.safetensors"),
        lambda: Task.from_json({"family": "swing.yml", "parameters": {}, "split": "train"}),
        lambda: Zoo.create(tmp_path / "zoo", "swing.yml", 0),
    ):
        with pytest.raises(MetaMapError, match="expected a name, not a file"):
            read()
    assert "this" not in sys.modules
    with pytest.raises(MetaMapError, match="cannot stand in METAMAP_FAMILIES"):
        load_family("a:b/swing.yml")


def test_its_environments_have_the_render_modes_of_gymnasiums() -> None:
    env = gym.make(get_family("pendulum-torque").gym_id, render_mode="rgb_array")  # without a warning
    env.close()
    with pytest.raises(MetaMapError, match=r"unknown render mode 'rgb' of Pendulum-v1: did you mean 'rgb_array'"):
        GymnasiumFamilyEnv("pendulum-torque", render_mode="rgb")


def test_what_needs_physics_alone_is_refused_in_words() -> None:
    with pytest.raises(MetaMapError, match="has no MuJoCo model: it is Pendulum-v1"):
        FamilyEnv("pendulum-torque")
    with pytest.raises(MetaMapError, match=r"runs Walker2d-v5 itself.*MetaMap/WalkerParts-v0"):
        FamilyEnv("walker-parts").reset()
    with pytest.raises(MetaMapError, match="is not declared in YAML"):
        GymnasiumFamilyEnv("reacher-goal")
    env = GymnasiumFamilyEnv("pendulum-torque")
    with pytest.raises(MetaMapError, match=r"call reset\(\) before step"):
        env.step(np.zeros(1))
    env.reset(seed=0)
    with pytest.raises(MetaMapError, match=r"expected shape \(1,\), got \(2,\)"):
        env.step(np.zeros(2))
    with pytest.raises(MetaMapError, match="not finite"):
        env.step(np.array([np.nan]))
    with pytest.raises(MetaMapError, match="without a render_mode"):
        env.render()
