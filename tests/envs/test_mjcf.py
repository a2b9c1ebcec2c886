"""Families of users' own MJCF models."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from helpers.models import assert_equal_models
from helpers.own_models import EXAMPLE, ROBOT, declare, installed_model
from helpers.xml_models import assert_same_models
from metamap_envs import Family, FamilyEnv, FamilyVectorEnv, MetaMapError, Rollout, load_family, registry
from metamap_envs.identity import check_family, describe_family
from metamap_envs.mjcf.family import MjcfFamily
from metamap_rl.evaluation.identification import identify

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


@pytest.fixture
def arm() -> Family:
    return load_family(EXAMPLE / "arm.yml")


# parity with Gymnasium -----------------------------------------------------------------------------------------------

HOPPER: dict[str, Any] = {
    "observation": [{"positions": {"leave_out": ["rootx"]}}, {"velocities": {"clip": 10}}],
    "reward": [{"velocity": {"joint": "rootx"}}, "alive", {"action_cost": {"weight": 0.001}}],
    "end": [
        {"positions": {"joints": ["rootz"], "low": 0.7}},
        {"positions": {"joints": ["rooty"], "low": -0.2, "high": 0.2}},
        {"positions": {"leave_out": ["rootx", "rootz"], "low": -100, "high": 100}},
        {"velocities": {"low": -100, "high": 100}},
    ],
    "start": {"noise": {"positions": 0.005, "velocities": 0.005}},
    "parameters": {"mass": {"body": "*", "field": "mass", "how": "scale", "train": [0.5, 2]}},
    "frame_skip": 4,
    "horizon": 1000,
}


def test_hopper_from_terms_is_gymnasiums_to_the_bit(tmp_path: Path) -> None:
    family = declare(tmp_path, installed_model("hopper.xml"), **HOPPER)
    theirs, mine = gym.make("Hopper-v5"), gym.make(family.gym_id)
    generator, ends = np.random.default_rng(0), 0
    for seed in range(12):
        expected, found = theirs.reset(seed=seed)[0], mine.reset(seed=seed)[0]
        np.testing.assert_array_equal(found, expected)
        for _ in range(60):
            action = generator.uniform(-1, 1, 3).astype(np.float32)
            one, other = theirs.step(action), mine.step(action)
            np.testing.assert_array_equal(other[0], one[0])
            assert other[1:4] == one[1:4]
            ends += one[2]
            if one[2]:
                break
    assert ends >= 5


def test_reacher_from_terms_is_gymnasiums(tmp_path: Path) -> None:
    arm = ["joint0", "joint1"]
    family = declare(
        tmp_path,
        installed_model("reacher.xml"),
        observation=[
            {"positions": {"joints": arm, "form": "cos_sin"}},
            {"positions": ["target_x", "target_y"]},
            {"velocities": arm},
            {"bodies": {"names": ["fingertip"], "minus": "target", "axes": "xy"}},
        ],
        reward=[{"track_place": {"body": "fingertip", "target": "target"}}, "action_cost"],
        parameters={"strength": {"actuator": "joint0", "field": "gear", "index": 0, "train": [100, 300]}},
        frame_skip=2,
        horizon=50,
        derived="lagged",
    )
    theirs: Any = gym.make("Reacher-v5").unwrapped
    mine = FamilyEnv(family.name)
    expected, _ = theirs.reset(seed=3)
    mine.reset(seed=3)
    mine.data.qpos[:], mine.data.qvel[:] = theirs.data.qpos, theirs.data.qvel
    mujoco.mj_forward(mine.model, mine.data)
    mine._before = mine._state()
    np.testing.assert_array_equal(family.observe(mine._before)[0], expected)
    generator = np.random.default_rng(0)
    for _ in range(50):
        action = generator.uniform(-1, 1, 2).astype(np.float32)
        one, other = theirs.step(action), mine.step(action)
        np.testing.assert_array_equal(other[0], one[0])
        assert other[1] == pytest.approx(one[1], rel=1e-12)


# environments --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is")
@pytest.mark.filterwarnings("ignore:.*not tested by check_env")
def test_gymnasium_accepts_the_example(arm: Family) -> None:
    check_env(gym.make(arm.gym_id).unwrapped, skip_render_check=True)
    assert gym.spec(arm.gym_id).max_episode_steps == arm.horizon == 100


def test_many_at_once_are_single_ones_to_the_bit_also_when_tasks_change(arm: Family) -> None:
    first, second = arm.sample("train", 3, 0), arm.sample("test-in", 3, 1)
    many = gym.make_vec(arm.gym_id, num_envs=3, tasks=first, autoreset_mode=AutoresetMode.DISABLED)
    singles = [gym.make(arm.gym_id, task=task) for task in first]
    seen = many.reset(seed=5)[0]
    np.testing.assert_array_equal(seen, [env.reset(seed=5 + index)[0] for index, env in enumerate(singles)])
    generator = np.random.default_rng(0)
    for count in range(30):
        if count == 15:
            many.unwrapped.set_tasks(second)  # type: ignore[attr-defined]
            for env, task in zip(singles, second, strict=True):
                env.unwrapped.set_task(task)  # type: ignore[attr-defined]
        actions = generator.uniform(-1, 1, (3, 2)).astype(np.float32)
        seen, rewards, ended, *_ = many.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_array_equal(seen, [step[0] for step in steps])
        np.testing.assert_array_equal(rewards, [step[1] for step in steps])
        np.testing.assert_array_equal(ended, [step[2] for step in steps])


def test_each_parameter_changes_what_it_says_and_hidden_ones_never_show(arm: Family) -> None:
    def trajectory(**parameters: float) -> tuple[list[Any], list[float]]:
        env = FamilyEnv(arm.name, parameters)
        rows, rewards = [env.reset(seed=0)[0]], []
        for _ in range(10):
            step = env.step(np.array([0.5, -0.2], np.float32))
            rows.append(step[0])
            rewards.append(step[1])
        return np.array(rows).tolist(), rewards

    own, rewards = trajectory()
    for name, value in (("payload", 0.9), ("friction", 3.0), ("forearm", 1.2)):
        assert trajectory(**{name: value})[0] != own
    same, others = trajectory(goal_x=0.4)
    assert same == own
    assert rewards != others


def test_infos_have_the_terms_which_add_up(arm: Family) -> None:
    env = FamilyEnv(arm.name)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.ones(2, np.float32))
    terms = {name: value for name, value in info.items() if name.startswith("reward_")}
    assert list(terms) == ["reward_track_place", "reward_calm", "reward_action_cost", "reward_action_rate"]
    assert reward == pytest.approx(sum(terms.values()), rel=1e-12)
    assert terms["reward_action_cost"] == pytest.approx(-0.02)
    assert terms["reward_action_rate"] == pytest.approx(-0.02)  # the controls were 0 before


def test_copies_and_other_processes_go_on(arm: Family) -> None:
    env = FamilyVectorEnv(arm.sample("train", 2, 0), num_threads=1)
    env.reset(seed=0)
    for each in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):  # noqa: S301
        np.testing.assert_array_equal(each.step(np.ones((2, 2)))[0], copy.deepcopy(env).step(np.ones((2, 2)))[0])
    assert os.environ[registry.VARIABLE] == str(EXAMPLE / "arm.yml")
    code = "import gymnasium as gym, metamap_envs; print(gym.make('MetaMap/MyArm-v0').reset(seed=0)[0].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(gym.make(arm.gym_id).reset(seed=0)[0].tolist())


def test_actions_are_scaled_to_the_ranges_of_control(tmp_path: Path) -> None:
    env = FamilyEnv(declare(tmp_path).name)
    env.reset(seed=0)
    env.step(np.array([-1.0, 0.5], np.float32))
    np.testing.assert_allclose(env.data.ctrl, [-1.5, 1.0])


def test_starts_are_the_keyframe_with_noise_on_the_joints_that_have_it(tmp_path: Path) -> None:
    family = declare(tmp_path, start={"keyframe": "high", "noise": {"positions": {"hip": 0.3}, "velocities": 0.1}})
    env = FamilyEnv(family.name)
    rows = np.array([env.reset(seed=seed)[0] for seed in range(50)])
    np.testing.assert_array_equal(rows[:, [2, 3, 8]], [[1.0, 1.0, 0.2]] * 50)
    assert 0.2 < np.abs(rows[:, 7] - 0.1).max() <= 0.3
    assert 0.05 < np.abs(rows[:, 9:]).max() <= 0.1


# models --------------------------------------------------------------------------------------------------------------

FIELDS = [
    ({"body": "leg", "field": "mass", "how": "scale"}, 1.5, None),
    ({"joint": "hip", "field": "damping"}, 0.9, ('damping="0.5"', 'damping="0.9"')),
    ({"joint": "hip", "field": "stiffness"}, 3.0, ('stiffness="1"', 'stiffness="3"')),
    ({"joint": "hip", "field": "armature"}, 0.02, ('armature="0.01"', 'armature="0.02"')),
    ({"joint": "hip", "field": "frictionloss"}, 0.4, ('frictionloss="0.1"', 'frictionloss="0.4"')),
    ({"geom": "leg", "field": "friction", "index": 0}, 3.0, ('friction="2"', 'friction="3"')),
    ({"actuator": "hip", "field": "kp"}, 30.0, ('kp="20"', 'kp="30"')),
    ({"actuator": "knee", "field": "gear", "index": 0}, 4.0, ('gear="3"', 'gear="4"')),
    ({"option": "density"}, 2.0, ('density="1"', 'density="2"')),
    ({"option": "gravity", "index": 2}, -5.0, ("<option", '<option gravity="0 0 -5"')),
    ({"length": "leg", "how": "scale"}, 1.2, ("-0.3", "-0.36")),
]


@pytest.mark.parametrize(
    ("entry", "value", "edit"), FIELDS, ids=[str(list(entry.values())[-1]) for entry, *_ in FIELDS]
)
def test_a_value_is_as_if_it_stood_in_the_file(
    tmp_path: Path, entry: dict[str, Any], value: float, edit: tuple[str, str] | None
) -> None:
    own = 1.0 if entry.get("how") else 0.9 * value
    family = declare(tmp_path, parameters={"p": {**entry, "train": sorted([own, value])}})
    found = family.model(family.task({"p": value}))
    if edit is None:
        before = family.model(family.task({"p": 1.0}))
        np.testing.assert_allclose(found.body("leg").mass, 1.5 * before.body("leg").mass)
        np.testing.assert_allclose(found.body("leg").inertia, 1.5 * before.body("leg").inertia)
        return
    assert edit[0] in ROBOT
    assert_same_models(found, mujoco.MjModel.from_xml_string(ROBOT.replace(*edit)))


def test_a_default_other_than_the_models_own_is_that_of_the_base_model(tmp_path: Path) -> None:
    entry = {"joint": "hip", "field": "damping", "default": 2.0, "train": [1, 3]}
    family = declare(tmp_path, parameters={"p": entry})
    assert family.base_model.joint("hip").damping == 2.0
    assert family.model(family.task({"p": 1.0})).joint("hip").damping == 1.0


def test_a_mass_stays_what_it_is_declared_while_a_length_changes(tmp_path: Path) -> None:
    parameters = {
        "mass": {"body": "leg", "field": "mass", "train": [0.5, 2.0]},
        "length": {"length": "leg", "how": "scale", "train": [0.8, 1.2]},
    }
    family = declare(tmp_path, parameters=parameters)
    task = family.task({"length": 1.2})
    np.testing.assert_allclose(family.model(task).body("leg").mass, task["mass"])


def test_a_time_step_that_is_a_parameter_changes_what_velocities_are_divided_by(tmp_path: Path) -> None:
    family = declare(tmp_path, parameters={"dt": {"option": "timestep", "train": [0.002, 0.005]}}, frame_skip=2)
    for value in (0.002, 0.005):
        env = FamilyEnv(family.name, {"dt": value})
        env.reset(seed=0)
        before = env.data.xpos[2].copy()
        _, reward, *_ = env.step(np.zeros(2, np.float32))
        assert reward == pytest.approx((env.data.xpos[2] - before)[0] / (2 * value), abs=1e-12)


def test_sensors_that_terms_add_leave_the_physics_alone(tmp_path: Path) -> None:
    family = declare(tmp_path, end=[{"contacts": {"geoms": ["foot"], "bodies": ["torso"]}}])
    own = mujoco.MjModel.from_xml_string(ROBOT)
    assert family.base_model.nsensor == own.nsensor + 2
    model = copy.copy(family.base_model)
    data, other = mujoco.MjData(model), mujoco.MjData(own)
    mujoco.mj_step(model, data, nstep=100)
    mujoco.mj_step(own, other, nstep=100)
    np.testing.assert_array_equal(data.qpos, other.qpos)


def test_contacts_end_an_episode(tmp_path: Path) -> None:
    family = declare(tmp_path, end=[{"contacts": ["foot"]}], start={"keyframe": "high"}, reward=["alive"])
    env = FamilyEnv(family.name)
    env.reset(seed=0)
    for _ in range(60):
        _, reward, ended, *_ = env.step(np.zeros(2, np.float32))
        names = {env.model.geom(geom).name for pair in env.data.contact.geom for geom in pair}
        assert reward == 1.0 - ended
        if ended:
            break
    assert ended
    assert "foot" in names


# derived quantities --------------------------------------------------------------------------------------------------


def test_derived_quantities_are_of_the_state_after_the_step(tmp_path: Path) -> None:
    family = declare(tmp_path, observation=["positions", "velocities", {"sites": ["head"]}, {"sensors": ["gyro"]}])
    env = FamilyEnv(family.name)
    env.reset(seed=0)
    for _ in range(5):
        seen = env.step(np.ones(2, np.float32))[0]
    data = copy.copy(env.data)
    mujoco.mj_forward(env.model, data)
    np.testing.assert_allclose(seen[-6:-3], data.site("head").xpos, atol=1e-12)
    np.testing.assert_allclose(seen[-3:], data.sensor("gyro").data, atol=1e-12)


# stored documents and identification ---------------------------------------------------------------------------------


def test_an_edit_of_the_model_is_noticed_and_one_of_its_comments_is_not(tmp_path: Path) -> None:
    recorded = describe_family(declare(tmp_path).name)
    registry._DECLARED.clear()
    declare(tmp_path, ROBOT.replace("<worldbody>", "<!-- a remark -->\n  <worldbody>"))
    check_family(recorded, "test-robot", "zoo: it was")
    registry._DECLARED.clear()
    declare(tmp_path, ROBOT.replace('gear="3"', 'gear="3.1"'))
    with pytest.raises(MetaMapError, match="another declaration of the family 'test-robot' of the same version: model"):
        check_family(recorded, "test-robot", "zoo: it was")


def test_an_edit_of_an_included_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "floor.xml").write_text('<mujoco><worldbody><geom type="plane" size="1 1 1"/></worldbody></mujoco>')
    xml = ROBOT.replace("<worldbody>", '<include file="floor.xml"/><worldbody>', 1)
    before = declare(tmp_path, xml).declared
    registry._DECLARED.clear()
    (tmp_path / "floor.xml").write_text('<mujoco><worldbody><geom type="plane" size="2 2 1"/></worldbody></mujoco>')
    assert declare(tmp_path, xml).declared != before


@pytest.mark.parametrize("seed", range(2))
def test_system_identification_finds_the_task(tmp_path: Path, seed: int) -> None:
    parameters = {
        "strength": {"actuator": "knee", "field": "gear", "index": 0, "how": "scale", "train": [0.5, 2.0]},
        "goal": {"train": [0.0, 1.0]},
    }
    reward = [{"track_velocity": {"body": "torso", "target": "goal"}}, {"energy": {"weight": 0.01}}]
    family = declare(tmp_path, parameters=parameters, reward=reward)
    (task,) = family.sample("train", 1, seed)
    env = FamilyVectorEnv([task], num_threads=1)
    seen, _ = env.reset(seed=seed)
    rows: list[Any] = []
    generator = np.random.default_rng(seed)
    for _ in range(15):
        action = generator.uniform(-1, 1, (1, 2)).astype(np.float32)
        following, reward_, ended, cut, _ = env.step(action)
        rows.append((seen[0], action[0], reward_[0], following[0], ended[0], cut[0]))
        seen = following
    found = identify(Rollout(family.name, *(np.array(part) for part in zip(*rows, strict=True))))
    np.testing.assert_allclose(found.task.values, task.values, rtol=1e-2, atol=1e-2)


def test_observations_hold_the_state_only_where_they_do(tmp_path: Path, arm: Family) -> None:
    values = arm.task().values[None]
    env = FamilyEnv(arm.name)
    seen = env.reset(seed=0)[0][None]
    assert arm.states_of(seen, values) is None  # its reward remembers the action before
    assert isinstance(arm, MjcfFamily)
    walker = declare(tmp_path, installed_model("hopper.xml"), **HOPPER)
    robot = FamilyEnv(walker.name)
    seen = robot.reset(seed=0)[0][None]
    states = walker.states_of(seen, walker.task().values[None])
    assert states is not None
    np.testing.assert_allclose(states[0][0, 1:], robot.data.qpos[1:])
    np.testing.assert_allclose(states[1][0], robot.data.qvel)
    assert_equal_models(walker.base_model, mujoco.MjModel.from_xml_string(installed_model("hopper.xml")))
