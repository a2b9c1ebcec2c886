"""Tasks that change in mid-episode: the physics are replaced, the state is kept."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from metamap_envs import Family, FamilyEnv, FamilyVectorEnv, MetaMapError, Task, get_family, list_families
from metamap_envs.declared_env import GymnasiumFamilyEnv

DECLARED = ["walker-parts", "pendulum-torque"]


def tasks_of(name: str, count: int = 3) -> list[Task]:
    return get_family(name).sample("train", count, 0)


def actions_of(family: Family, steps: int, count: int) -> Any:
    return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, count, family.action_size)).astype(np.float32)


def state_of(data: mujoco.MjData) -> list[bytes]:
    return [np.array(part).tobytes() for part in (data.qpos, data.qvel, data.act, data.qacc_warmstart, data.time)]


@pytest.mark.parametrize("name", list_families())
def test_equal_to_a_loop_over_mujoco_that_swaps_the_model(name: str) -> None:
    family, (first, second, other) = get_family(name), tasks_of(name)
    env = FamilyEnv(name, task=first)
    vector = FamilyVectorEnv([first, other], num_threads=2)
    env.reset(seed=3), vector.reset(seed=[3, 4])
    model = family.model(first)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.act[:] = env.data.qpos, env.data.qvel, env.data.act
    mujoco.mj_forward(model, data)
    task = first
    for step, action in enumerate(actions_of(family, 12, 2)):
        if step in (4, 9):
            task = second if step == 4 else first
            env.set_task(task)
            vector.set_tasks([task], [0] if step == 4 else np.array([True, False]))
            model = family.model(task)
            family.carry(task, data.qpos, data.qvel)
        if step == 6:
            env, vector = copy.deepcopy(env), pickle.loads(pickle.dumps(vector))  # noqa: S301
        expected = env.step(action[0])
        observations, rewards, terminated, _, infos = vector.step(action)
        for _ in range(family.frame_skip):
            data.ctrl[:] = family.controls(action[:1], data.act[None], task.values[None])[0]
            mujoco.mj_step(model, data)
        assert state_of(env.data)[:4] == state_of(data)[:4]
        assert env.data.time == data.time
        assert observations[0].tobytes() == expected[0].tobytes()
        assert (rewards[0], terminated[0]) == expected[1:3]
        assert infos["task"].tolist() == [expected[4]["task"], other.id] == [env.task.id, other.id]
        if expected[2]:
            break


def test_a_goal_changes_the_reward_from_the_next_step_on_and_nothing_else() -> None:
    for name, change in (("cheetah-velocity", {"target_velocity": 0.5}), ("reacher-goal", {"goal_angle": 2.0})):
        family = get_family(name)
        kept, changed = FamilyEnv(name), FamilyEnv(name)
        kept.reset(seed=0), changed.reset(seed=0)
        task = family.task(change)
        for step, action in enumerate(actions_of(family, 6, 1)):
            if step == 3:
                changed.set_task(task.to_json())
            one, other = kept.step(action[0]), changed.step(action[0])
            assert one[0].tobytes() == other[0].tobytes()
            assert (one[1] == other[1]) == (step < 3)
        fresh = FamilyEnv(name, task=task)
        assert fresh.reset(seed=1)[0].tobytes() == changed.reset(seed=1)[0].tobytes()
        assert fresh.data.qpos.tobytes() == changed.data.qpos.tobytes()


def test_a_reset_keeps_the_task_and_the_generator_goes_on() -> None:
    first, second, _ = tasks_of("cheetah-length")
    env, fresh = FamilyEnv("cheetah-length", task=first), FamilyEnv("cheetah-length", task=second)
    env.reset(seed=5), fresh.reset(seed=5)
    env.step(np.zeros(6)), env.set_task(second)
    assert env.reset()[0].tobytes() == fresh.reset()[0].tobytes()
    assert env.step(np.ones(6))[0].tobytes() == fresh.step(np.ones(6))[0].tobytes()


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
def test_steps_of_the_episode_go_on_and_autoreset_starts_with_the_new_task(mode: str) -> None:
    first, second, third = tasks_of("cheetah-actuators")
    wrapped = gym.make(get_family("cheetah-actuators").gym_id, task=first, max_episode_steps=5)
    vector = FamilyVectorEnv([first, third], horizon=5, autoreset_mode=mode)
    fresh = FamilyVectorEnv([second, third], horizon=5, autoreset_mode=mode)
    wrapped.reset(seed=0), vector.reset(seed=0), fresh.reset(seed=0)
    single: Any = wrapped.unwrapped
    for step, action in enumerate(actions_of(get_family("cheetah-actuators"), 9, 2)):
        if step == 3:
            single.set_task(second), vector.set_tasks([second], where=[0])
        found, expected = vector.step(action), fresh.step(action)
        if step < 5:
            assert found[3][0] == wrapped.step(action[0])[3] == (step == 4)
        assert found[0][1].tobytes() == expected[0][1].tobytes()
        if step > 5:  # an episode of the new task alone
            assert found[0][0].tobytes() == expected[0][0].tobytes()
        if step == 4 and mode == "same_step":
            assert found[4]["final_info"]["task"][0] == second.id
        assert found[4]["task"][0] == (second if step >= 3 else first).id


def test_an_open_renderer_goes_on_with_the_new_model() -> None:
    first, second, _ = tasks_of("cheetah-length")
    env = FamilyEnv("cheetah-length", task=first, render_mode="rgb_array")
    env.reset(seed=0)
    viewer = type("Viewer", (), {})()
    renderer: Any = type("Renderer", (), {"_viewers": {"rgb_array": viewer}})()
    env._renderer = renderer
    env.set_task(second)
    assert renderer.model is viewer.model is env.model
    assert renderer.data is viewer.data is env.data
    torso = env.model.geom("torso").id
    assert env.data.geom_xpos[torso].any()  # kinematics of the new model, before any step


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "expected 3 tasks, one per environment, got 0"),
        (([None] * 3,), "environment 0 has none"),
        ((tasks_of("reacher-goal"),), "expected a task of family 'cheetah-actuators'"),
        ((tasks_of("cheetah-actuators", 1), [3]), r"expected indices in \[0, 2\], got 3"),
        ((tasks_of("cheetah-actuators", 2), [1, 1]), "got 1 twice"),
        ((tasks_of("cheetah-actuators", 1), [0.5]), "expected a mask"),
        ((tasks_of("cheetah-actuators", 1), [True]), r"expected bool of shape \(3,\)"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(arguments: Any, message: str) -> None:
    vector = FamilyVectorEnv(tasks_of("cheetah-actuators"))
    before = vector.tasks
    with pytest.raises(MetaMapError, match=message):
        vector.set_tasks(*arguments)
    vector.set_tasks([], where=[])
    vector.set_tasks([], where=np.zeros(3, np.bool_))
    assert vector.tasks == before
    env = FamilyEnv("cheetah-actuators")
    for task in (None, 3, get_family("reacher-goal").task()):
        with pytest.raises(MetaMapError, match="expected a"):
            env.set_task(task)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DECLARED)
def test_declared_families_change_live_what_a_running_environment_reads(name: str) -> None:
    family, (first, second, other) = get_family(name), tasks_of(name)
    if name == "pendulum-torque":  # its gravity is an argument of the constructor
        second = family.task({**dict(second.parameters), "gravity": first["gravity"]})
    env = gym.make(family.gym_id, task=first)
    vector = FamilyVectorEnv([first, other])
    env.reset(seed=3), vector.reset(seed=[3, 4])
    single: Any = env.unwrapped
    assert isinstance(single, GymnasiumFamilyEnv)
    same: Any = family.make(first)  # type: ignore[attr-defined]
    same.reset(seed=3)
    for step, action in enumerate(actions_of(family, 8, 2)):
        if step == 3:
            single.set_task(second), vector.set_tasks([second], [0])
            if hasattr(same.unwrapped, "model"):  # a hand-written loop: the compiled model of the other task, same data
                same.unwrapped.model = family.model(second)
        if step == 5:
            vector = copy.copy(vector)
        found, expected = vector.step(action), env.step(action[0])
        assert found[0][0].tobytes() == expected[0].tobytes()
        assert found[1][0] == expected[1]
        assert found[4]["task"][0] == expected[4]["task"] == (second if step >= 3 else first).id
        if hasattr(same.unwrapped, "model"):
            assert np.ravel(same.step(action[0])[0]).tobytes() == expected[0].tobytes()
    assert env.reset()[1]["task"] == second.id


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pendulum-torque", {"gravity": 7.0}, "'gravity' cannot change in mid-episode: it is the argument 'g'"),
        ("cartpole-length", {"pole_mass": 0.2}, "'pole_mass' cannot .*: the constructor derives 'polemass_length'"),
        ("cartpole-length", {"length": 0.3}, "'length' cannot .*: the constructor derives 'polemass_length'"),
    ],
)
def test_declared_families_refuse_what_the_constructor_keeps(name: str, change: dict[str, float], message: str) -> None:
    family = get_family(name)
    env, same = GymnasiumFamilyEnv(name), GymnasiumFamilyEnv(name)
    vector = FamilyVectorEnv([family.task()] * 2)
    env.reset(seed=0), same.reset(seed=0), vector.reset(seed=0)
    with pytest.raises(MetaMapError, match=message):
        env.set_task(family.task(change))
    with pytest.raises(MetaMapError, match=message):
        vector.set_tasks([family.task(), family.task(change)])
    assert env.task == family.task() == vector.tasks[1]
    action = np.ones(family.action_size)
    assert env.step(action)[0].tobytes() == same.step(action)[0].tobytes()
