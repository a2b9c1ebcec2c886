"""Terms of families of MJCF models, over their registry, and what is refused in words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.own_models import ROBOT, declare, document
from metamap_envs import FamilyEnv, MetaMapError, from_gymnasium, registry
from metamap_envs.from_gymnasium import user_modules
from metamap_envs.mjcf.terms import read_quantity
from metamap_envs.mjcf.terms.base import QUANTITIES, REWARDS
from metamap_rl.cli import main

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


@pytest.fixture(autouse=True)
def _forgets_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a module of terms of its own."""
    monkeypatch.setattr(user_modules, "_ADDED", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_terms", None)


PYTHON = """
import numpy as np

def speed(state):
    return np.abs(state.qvel).sum(axis=1)

def near(step, power=1.0):
    return -np.abs(step.after.readouts["site head"][:, 0] - step.parameter("goal")) ** power

def together(state):
    return state.qvel - state.qvel.mean()

def broken(state):
    return np.full(len(state.qvel), np.nan)

def raises(state):
    raise KeyError("hip")

def text(state):
    return ["a"] * len(state.qpos)
"""
TERMS: dict[str, list[tuple[Any, Any]]] = {
    "positions": [
        ({"joints": ["knee", "hip"]}, lambda env: [env.data.joint(name).qpos[0] for name in ("knee", "hip")]),
        (
            {"joints": ["hip", "knee"], "form": "cos_sin"},
            lambda env: [*np.cos(env.data.qpos[7:]), *np.sin(env.data.qpos[7:])],
        ),
        ({"leave_out": ["root"]}, lambda env: env.data.qpos[7:]),
    ],
    "velocities": [
        ({"clip": 0.1}, lambda env: np.clip(env.data.qvel, -0.1, 0.1)),
        (["hip"], lambda env: env.data.qvel[6:7]),
    ],
    "sites": [
        (["head"], lambda env: env.data.site("head").xpos),
        (
            {"names": ["head"], "minus": "goal", "axes": "xz"},
            lambda env: (env.data.site("head").xpos - env.data.site("goal").xpos)[[0, 2]],
        ),
    ],
    "bodies": [({"names": ["torso", "foot"], "axes": "z"}, lambda env: env.data.xpos[[2, 4], 2])],
    "upright": [("torso", lambda env: [env.data.body("torso").xmat[8]])],
    "sensors": [(["gyro", "bend"], lambda env: env.data.sensordata[:4])],
    "contacts": [
        (
            {"geoms": ["foot"], "bodies": ["torso"]},
            lambda env: [float(each in _touching(env)) for each in ("foot", "torso")],
        )
    ],
    "last_action": [({}, lambda env: [(env.data.ctrl[0] + 0.5) / 1.0, env.data.ctrl[1] / 2.0])],
    "python": [("my_terms:speed", lambda env: [np.abs(env.data.qvel).sum()])],
}


def _touching(env: FamilyEnv) -> set[str]:
    return {env.model.geom(geom).name for pair in env.data.contact.geom for geom in pair}


def _step(env: FamilyEnv, count: int, seed: int) -> Any:
    env.reset(seed=seed)
    generator = np.random.default_rng(seed)
    for _ in range(count):
        found = env.step(generator.uniform(-1, 1, 2).astype(np.float32))
    return found


CASES = [(name, keys, expected) for name, cases in TERMS.items() for keys, expected in cases]


@pytest.mark.parametrize(("name", "keys", "expected"), CASES, ids=[name for name, *_ in CASES])
def test_a_quantity_is_what_mujoco_has(tmp_path: Path, name: str, keys: Any, expected: Any) -> None:
    (tmp_path / "my_terms.py").write_text(PYTHON)
    family = declare(tmp_path, observation=[{name: keys}], start={"noise": {"positions": 0.1, "velocities": 1.0}})
    env = FamilyEnv(family.name)
    for seed in range(3):
        seen = _step(env, 4 + 8 * seed, seed)[0]
        if name != "contacts":
            mujoco.mj_forward(env.model, env.data)
        np.testing.assert_allclose(seen, expected(env), atol=1e-9)


REWARDS_HERE: dict[str, list[tuple[Any, Any]]] = {
    "velocity": [({"joint": "hip"}, lambda old, new, env: (new["qpos"] - old["qpos"])[7] / 0.025)],
    "track_velocity": [
        (
            {"site": "head", "axis": "z", "target": "goal", "form": "squared"},
            lambda old, new, env: -((((new["head"] - old["head"])[2] / 0.025) - 0.7) ** 2),
        )
    ],
    "track_pose": [
        (
            {"joints": ["hip", "knee"], "target": "high"},
            lambda old, new, env: -np.hypot(*(new["qpos"][7:] - [0.1, 0.2])),
        ),
        ({"joints": ["hip"], "target": ["goal"]}, lambda old, new, env: -abs(new["qpos"][7] - 0.7)),
    ],
    "track_place": [
        (
            {"site": "head", "target": ["goal", 1], "axes": "xz", "form": "gaussian", "scale": 2},
            lambda old, new, env: np.exp(-np.sum((new["head"][[0, 2]] - [0.7, 1]) ** 2) / 4),
        ),
        ({"site": "head", "target": "goal"}, lambda old, new, env: -np.linalg.norm(new["head"] - [1, 0, 0.5])),
    ],
    "upright": [({"body": "leg", "axis": "x", "weight": -2}, lambda old, new, env: -2 * env.data.body("leg").xmat[6])],
    "alive": [({}, lambda old, new, env: 1.0)],
    "action_cost": [({"weight": 3}, lambda old, new, env: -3 * np.sum(np.square(new["action"])))],
    "action_rate": [({}, lambda old, new, env: -np.sum(np.square(new["action"] - old["action"])))],
    "energy": [
        ({}, lambda old, new, env: -np.abs(env.data.actuator_force * env.data.actuator_velocity).sum()),
    ],
    "sensors": [(["bend"], lambda old, new, env: new["qpos"][8])],
    "contacts": [({"geoms": ["foot"], "weight": -1}, lambda old, new, env: -float("foot" in _touching(env)))],
    "python": [
        (
            {"function": "my_terms:near", "arguments": {"power": 2.0}, "sites": ["head"]},
            lambda old, new, env: -((new["head"][0] - 0.7) ** 2),
        )
    ],
}
REWARD_CASES = [(name, keys, expected) for name, cases in REWARDS_HERE.items() for keys, expected in cases]


def _snapshot(env: FamilyEnv, action: Any) -> dict[str, Any]:
    return {"qpos": env.data.qpos.copy(), "head": env.data.site("head").xpos.copy(), "action": action}


@pytest.mark.parametrize(("name", "keys", "expected"), REWARD_CASES, ids=[name for name, *_ in REWARD_CASES])
def test_a_reward_is_its_formula(tmp_path: Path, name: str, keys: Any, expected: Any) -> None:
    (tmp_path / "my_terms.py").write_text(PYTHON)
    parameters = {
        "goal": {"train": [0.0, 1.0]},
        "weight": {"body": "leg", "field": "mass", "how": "scale", "train": [1, 2]},
    }
    use = {"track_velocity": {"body": "torso", "target": "goal", "weight": 1e-30}}  # so that a term names the parameter
    family = declare(tmp_path, parameters=parameters, reward=[{name: keys}, use])
    env = FamilyEnv(family.name, {"goal": 0.7})
    env.reset(seed=0)
    generator, old = np.random.default_rng(0), _snapshot(env, np.array([0.5, 0.0]))
    for _ in range(12):
        action = generator.uniform(-1, 1, 2).astype(np.float32)
        _, reward, *_ = env.step(action)
        new = _snapshot(env, action)
        assert reward == pytest.approx(expected(old, new, env), rel=1e-6, abs=1e-9)
        old = new


def test_every_term_is_tested_here_and_documented() -> None:
    read_quantity("positions", "observation[0]")  # fills the registry
    assert set(TERMS) == set(QUANTITIES)
    assert set(REWARDS_HERE) == set(REWARDS)
    page = (Path(__file__).parents[2] / "docs" / "own-mujoco.md").read_text()
    for cls in [*QUANTITIES.values(), *REWARDS.values()]:
        assert cls.__doc__
        for key in cls.model_fields:
            assert f"`{key}`" in page, (cls, key)
    assert all(f"| `{name}`" in page for name in [*QUANTITIES, *REWARDS])


# refusals ------------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "robt.xml"}, r"no such file.*did you mean 'robot.xml'"),
    ({"environment": "Hopper-v5"}, "not both"),
    ({"observtion": []}, "unknown key 'observtion': did you mean 'observation'"),
    ({"observation": []}, "observation: expected at least 1"),
    ({"observation": ["postions"]}, r"observation\[0\]: unknown term 'postions': did you mean 'positions'"),
    ({"observation": [{"positions": {"joint": ["hip"]}}]}, "unknown key 'joint': did you mean 'joints'"),
    ({"observation": [{"positions": ["hipp"]}]}, "unknown joint 'hipp': did you mean 'hip'"),
    ({"observation": [{"positions": {"form": "cos_sin"}}]}, "cos_sin is for hinges, and joint 'root'"),
    ({"observation": [{"positions": {"leave_out": ["root", "hip", "knee"]}}]}, "at least one joint"),
    ({"observation": [{"sites": ["heat"]}]}, "unknown site 'heat': did you mean 'head'"),
    ({"observation": [{"sites": {"names": ["head"], "axes": "zx"}}]}, "axes"),
    ({"observation": [{"sensors": ["gyros"]}]}, "unknown sensor 'gyros': did you mean 'gyro'"),
    ({"observation": [{"velocities": {"clip": 0}}]}, "clip: expected greater than 0"),
    ({"observation": [3]}, "expected the name of a term"),
    ({"observation": ["my_terms:sped"]}, "unknown function 'sped' of module 'my_terms': did you mean 'speed'"),
    ({"observation": ["my_trms:speed"]}, "No module named 'my_trms'"),
    ({"observation": ["my_terms:together"]}, "alone has other numbers than among others"),
    ({"observation": ["my_terms:broken"]}, "expected finite numbers"),
    ({"observation": ["my_terms:raises"]}, "KeyError"),
    ({"observation": ["my_terms:text"]}, "expected numbers of 2 environments"),
    ({"reward": ["upright"]}, "body: is missing"),
    ({"reward": [{"velocity": {}}]}, "needs one of joint, body and site"),
    ({"reward": [{"velocity": {"joint": "root"}}]}, "expected a hinge or a slide"),
    ({"reward": [{"alive": {"weight": 0}}]}, "weight other than 0"),
    ({"reward": [{"alive": {"label": "task"}}]}, "label"),
    ({"reward": ["alive", {"alive": {"label": "reward_alive"}}]}, "label"),
    ({"reward": [{"track_velocity": {"body": "torso", "target": "weigt"}}]}, "unknown parameter 'weigt'"),
    ({"reward": [{"track_place": {"site": "head", "target": [0, 1]}}]}, "expected 3 values"),
    ({"reward": [{"track_pose": {"joints": ["hip"], "target": [0, 1]}}]}, "expected 1 values"),
    (
        {"reward": [{"track_pose": {"joints": ["hip"], "target": "hihg"}}]},
        "unknown keyframe 'hihg': did you mean",
    ),
    ({"end": [{"positions": ["hip"]}]}, "expected low, high or both"),
    ({"end": [{"positions": {"joints": ["hip"], "low": 1, "high": 0}}]}, "low below high"),
    ({"end": [{"contacts": {}}]}, "needs geoms, bodies or both"),
    ({"start": {"keyframe": "hihg"}}, "unknown keyframe 'hihg': did you mean"),
    ({"start": {"noise": {"positions": -1}}}, "amounts of 0 or more"),
    ({"start": {"noise": {"positions": {"hipp": 1}}}}, "unknown joint 'hipp'"),
    ({"frame_skip": 0}, "frame_skip"),
    ({"horizon": 0}, "horizon"),
    ({"parameters": {"p": {"train": [0, 1]}}}, "no term of the reward names it"),
    ({"parameters": {"p": {"argument": "g", "train": [0, 1]}}}, "belongs to families of a Gymnasium environment"),
    ({"parameters": {"p": {"body": "torso", "train": [1, 2]}}}, "needs a field"),
    ({"parameters": {"p": {"body": "torzo", "field": "mass", "train": [1, 2]}}}, "did you mean 'torso'"),
    ({"parameters": {"p": {"body": "torso", "field": "mas", "train": [1, 2]}}}, "did you mean 'mass'"),
    ({"parameters": {"p": {"length": "leg", "train": [1, 2]}}}, "declare how: scale"),
    ({"parameters": {"p": {"length": "leg", "how": "scale", "train": [-1, 2]}}}, "above 0"),
    (
        {"parameters": {"p": {"length": "legg", "how": "scale", "train": [1, 2]}}},
        "unknown body 'legg': did you mean",
    ),
    (
        {"parameters": {name: {"length": "leg", "how": "scale", "train": [1, 2]} for name in "pq"}},
        "another parameter is the length",
    ),
    (
        {"parameters": {name: {"body": "leg", "field": "mass", "train": [1, 2]} for name in "pq"}},
        "write the same thing",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "my_terms.py").write_text(PYTHON)
    with pytest.raises(MetaMapError, match=message) as raised:
        declare(tmp_path, **changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<mujoco>", "MuJoCo cannot read it"),
        ("\x00\xff", "MuJoCo cannot read it"),
        ("<mujoco><worldbody/></mujoco>", "no actuators"),
        (ROBOT.replace(' ctrlrange="-2 2"', ""), "actuator 'knee' has no ctrlrange"),
        (ROBOT.replace('file="', ""), ""),
    ],
)
def test_a_model_that_cannot_be_used_is_one_sentence(tmp_path: Path, xml: str, message: str) -> None:
    if not message:
        assert declare(tmp_path, xml).action_size == 2
        return
    with pytest.raises(MetaMapError, match=message) as raised:
        declare(tmp_path, xml)
    assert "\n" not in str(raised.value)


@given(
    item=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(list(TERMS)),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        max_leaves=4,
    )
)
def test_no_item_of_a_list_makes_anything_but_a_term_or_a_sentence(item: Any) -> None:
    with contextlib.suppress(MetaMapError):
        name, term = read_quantity(item, "observation[0]")
        assert isinstance(term, QUANTITIES[name])


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MetaMapError):
        declare(tmp_path, observation=[{"sites": ["heat"]}])
    assert main(["families", "show", str(tmp_path / "robot.yml")]) == 2
    assert "did you mean 'head'" in capsys.readouterr().err


def test_a_dictionary_is_taken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "robot.xml").write_text(ROBOT)
    monkeypatch.chdir(tmp_path)
    family = from_gymnasium(document())
    assert family is registry.get_family("test-robot")
