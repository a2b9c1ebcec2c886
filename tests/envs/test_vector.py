"""The vector environment is Gymnasium's `SyncVectorEnv` of our single environments, to the bit, only faster."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from metamap_envs import FamilyEnv, FamilyVectorEnv, MetaMapError, Task, get_family, list_families

FAMILIES = list_families()
N, HORIZON = 5, 7


def tasks_of(name: str, count: int = N, seed: int = 0) -> list[Task]:
    return get_family(name).sample("train", count, seed)


def gymnasium_envs(name: str, mode: AutoresetMode, tasks: list[Task]) -> SyncVectorEnv:
    family_id = get_family(name).gym_id
    return SyncVectorEnv(
        [lambda task=task: gym.make(family_id, task=task, max_episode_steps=HORIZON) for task in tasks],
        autoreset_mode=mode,
    )


def our_envs(name: str, mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, threads: int = 2) -> FamilyVectorEnv:
    return FamilyVectorEnv(tasks_of(name), num_threads=threads, autoreset_mode=mode, horizon=HORIZON)


def actions_of(name: str, steps: int, seed: int = 0) -> np.ndarray[Any, Any]:
    size = get_family(name).action_size
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, N, size)).astype(np.float32)


def assert_equal(expected: Any, found: Any, where: str = "result") -> None:
    """Equal to the bit, types included, through tuples, infos and object arrays."""
    if isinstance(expected, dict):
        assert set(expected) == set(found), where
        for key in expected:
            assert_equal(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, tuple | list) or (isinstance(expected, np.ndarray) and expected.dtype.kind == "O"):
        assert len(expected) == len(found), where
        for index, (one, two) in enumerate(zip(expected, found, strict=True)):
            assert_equal(one, two, f"{where}[{index}]")
    elif isinstance(expected, np.ndarray):
        assert expected.dtype == found.dtype, where
        assert expected.tobytes() == found.tobytes(), where
    else:
        assert expected == found, where


def where_valid(infos: dict[str, Any]) -> dict[str, Any]:
    """Infos of a reset: our task ids are there for all environments, Gymnasium's only under the mask."""
    return {"task": np.where(infos["_task"], infos["task"], None), "_task": infos["_task"]}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_equal_to_gymnasium_with_autoreset(name: str, mode: AutoresetMode) -> None:
    theirs, ours = gymnasium_envs(name, mode, tasks_of(name)), our_envs(name, mode)
    assert ours.metadata["autoreset_mode"] is mode
    assert theirs.single_observation_space == ours.single_observation_space
    assert theirs.observation_space == ours.observation_space
    assert theirs.action_space == ours.action_space
    assert_equal(theirs.reset(seed=11), ours.reset(seed=11))
    for step, action in enumerate(actions_of(name, 4 * HORIZON)):
        if step == 3:  # from here on episodes do not end together
            mask = np.array([True, False, False, True, False])
            seeds = [None, None, None, 5, None]
            expected = theirs.reset(seed=seeds, options={"reset_mask": mask})
            found = ours.reset(seed=seeds, options={"reset_mask": mask})
            assert_equal(expected[0], found[0])
            assert_equal(where_valid(expected[1]), where_valid(found[1]))
        assert_equal(theirs.step(action), ours.step(action), f"step {step}")
    assert_equal(theirs.np_random_seed, ours.np_random_seed)
    assert [g.bit_generator.state for g in theirs.np_random] == [g.bit_generator.state for g in ours.np_random]


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_to_gymnasium_without_autoreset(name: str) -> None:
    theirs = gymnasium_envs(name, AutoresetMode.DISABLED, tasks_of(name))
    ours = our_envs(name, AutoresetMode.DISABLED)
    assert_equal(theirs.reset(seed=[3, 1, 4, 1, 5]), ours.reset(seed=[3, 1, 4, 1, 5]))
    ends = 0
    for step, action in enumerate(actions_of(name, 3 * HORIZON)):
        expected, found = theirs.step(action), ours.step(action)
        assert_equal(expected, found, f"step {step}")
        done = found[2] | found[3]
        if step == 2:
            done[1] = True
        if done.any():
            ends += 1
            expected_reset = theirs.reset(options={"reset_mask": done.copy()})
            found_reset = ours.reset(options={"reset_mask": done.copy()})
            assert_equal(expected_reset[0], found_reset[0])
            assert_equal(where_valid(expected_reset[1]), where_valid(found_reset[1]))
    assert ends > 3


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_unstable_physics_end_one_episode_and_leave_the_others_alone(mode: AutoresetMode) -> None:
    name = "cheetah-actuators"
    theirs, ours = gymnasium_envs(name, mode, tasks_of(name)), our_envs(name, mode)
    assert_equal(theirs.reset(seed=0), ours.reset(seed=0))
    for step, action in enumerate(actions_of(name, 2 * HORIZON)):
        if step == 2:
            theirs.envs[1].unwrapped.data.qvel[2] = np.nan  # type: ignore[attr-defined]
            ours.simulator._qvel[1, 2] = np.nan
        expected, found = theirs.step(action), ours.step(action)
        assert_equal(expected, found, f"step {step}")
        assert found[2].tolist() == [False, step == 2, False, False, False]
        done = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and done.any():
            theirs.reset(options={"reset_mask": done.copy()})
            ours.reset(options={"reset_mask": done})


@pytest.mark.parametrize("name", FAMILIES)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    def everything(threads: int) -> list[Any]:
        env = our_envs(name, threads=threads)
        assert env.simulator.num_threads == min(threads, N)
        return [env.reset(seed=2), *(env.step(action) for action in actions_of(name, 2 * HORIZON))]

    once = everything(1)
    for threads in (1, 2, 3, 8):
        assert_equal(once, everything(threads))


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_given_at_reset_are_as_if_given_at_construction(name: str) -> None:
    ours, after = our_envs(name), tasks_of(name, seed=9)
    ours.reset(seed=0)
    for action in actions_of(name, 3):
        ours.step(action)
    fresh = FamilyVectorEnv(after, horizon=HORIZON)
    given = [after[0].to_json(), *after[1:]]
    assert_equal(fresh.reset(seed=1), ours.reset(seed=1, options={"tasks": given}))
    assert ours.tasks == fresh.tasks
    for action in actions_of(name, 2 * HORIZON, seed=1):
        assert_equal(fresh.step(action), ours.step(action))
    one = after[2]
    for options in ({"task": one}, {"parameters": dict(one.parameters)}):
        _, infos = ours.reset(seed=1, options=options)
        assert infos["task"].tolist() == [one.id] * N
    default = get_family(name).task()
    fresh = FamilyVectorEnv([default] * N, horizon=HORIZON)
    assert_equal(fresh.reset(seed=1), ours.reset(seed=1, options={"task": default}))
    for action in actions_of(name, 3):
        assert_equal(fresh.step(action), ours.step(action))


def test_results_belong_to_the_caller() -> None:
    first, second = our_envs("reacher-goal"), our_envs("reacher-goal")
    first.reset(seed=0), second.reset(seed=0)
    for action in actions_of("reacher-goal", 2 * HORIZON):
        expected, found = first.step(action), second.step(action)
        assert_equal(expected, found)
        for result in found[:4]:
            result[...] = 1
        for key in found[4]:
            found[4][key][...] = False


def test_layout_of_actions_does_not_change_the_bits() -> None:
    first, second = our_envs("cheetah-velocity"), our_envs("cheetah-velocity")
    first.reset(seed=0), second.reset(seed=0)
    for action in actions_of("cheetah-velocity", 3):
        assert_equal(first.step(action), second.step(np.asfortranarray(action)))
        assert_equal(first.step(action), second.step(np.repeat(action, 2, axis=1)[:, ::2]))


@pytest.mark.parametrize("name", FAMILIES)
def test_make_vec(name: str) -> None:
    family, tasks = get_family(name), tasks_of(name, 3)
    env = gym.make_vec(family.gym_id, num_envs=3, tasks=[task.to_json() for task in tasks], autoreset_mode="same_step")
    assert isinstance(env, FamilyVectorEnv)
    assert env.horizon == family.horizon
    assert env.tasks == tuple(tasks)
    assert env.autoreset_mode is AutoresetMode.SAME_STEP
    assert env.spec is not None
    again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, FamilyVectorEnv)
    assert again.tasks == env.tasks
    short = gym.make_vec(family.gym_id, num_envs=2, parameters=dict(tasks[0].parameters), max_episode_steps=3)
    assert isinstance(short, FamilyVectorEnv)
    assert short.horizon == 3
    assert [task.id for task in short.tasks] == [tasks[0].id] * 2
    looped = gym.make_vec(family.gym_id, num_envs=2, vectorization_mode="sync")
    assert isinstance(looped, SyncVectorEnv)
    assert isinstance(looped.envs[0].unwrapped, FamilyEnv)


def test_make_vec_takes_what_make_takes_or_says_why_not() -> None:
    family, (task,) = get_family("cheetah-velocity"), tasks_of("cheetah-velocity", 1)
    env = gym.make_vec(family.gym_id, num_envs=2, task=task, render_mode=None)
    assert isinstance(env, FamilyVectorEnv)
    assert env.tasks == (task, task)
    for arguments, message in (
        ({"task": task, "parameters": {}}, "give one of tasks, task and parameters"),
        ({"render_mode": "rgb_array"}, "vectorization_mode='sync'"),
        ({"paramters": {}}, "unknown argument of the vector environment 'paramters': did you mean 'parameters'"),
    ):
        with pytest.raises(MetaMapError, match=message):
            gym.make_vec(family.gym_id, num_envs=2, **arguments)


def test_a_seed_is_counted_up_and_none_goes_on() -> None:
    env = our_envs("reacher-goal")
    counted = env.reset(seed=4)[0]
    assert env.np_random_seed == (4, 5, 6, 7, 8)
    np.testing.assert_array_equal(counted, env.reset(seed=np.arange(4, 9))[0])
    assert (counted != env.reset()[0]).any(axis=1).all()
    assert env.np_random_seed == (4, 5, 6, 7, 8)


def test_bad_construction_is_refused_in_words() -> None:
    tasks = tasks_of("reacher-goal")
    with pytest.raises(MetaMapError, match="at least one task"):
        FamilyVectorEnv([])
    with pytest.raises(MetaMapError, match="expected a task of family 'reacher-goal', got one of 'cheetah-velocity'"):
        FamilyVectorEnv([*tasks, get_family("cheetah-velocity").task()])
    with pytest.raises(MetaMapError, match="unknown autoreset mode 'next': did you mean 'next_step'"):
        FamilyVectorEnv(tasks, autoreset_mode="next")
    with pytest.raises(MetaMapError, match="horizon must be at least 1"):
        FamilyVectorEnv(tasks, horizon=0)
    with pytest.raises(MetaMapError, match="num_threads must be 0"):
        FamilyVectorEnv(tasks, num_threads=-1)
    vector_id = get_family("reacher-goal").gym_id
    with pytest.raises(MetaMapError, match="expected 2 tasks, one per environment, got 5"):
        gym.make_vec(vector_id, num_envs=2, tasks=tasks)
    with pytest.raises(MetaMapError, match="give one of tasks, task and parameters"):
        gym.make_vec(vector_id, num_envs=5, tasks=tasks, parameters={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1, 2]}, "expected an integer or 5 reset seeds"),
        ({"seed": -1}, "at least 0, got -1"),
        ({"seed": [1, 2, 3, 4, "5"]}, "at least 0, got '5'"),
        ({"seed": "12345"}, "at least 0, got '12345'"),
        ({"options": {"taks": 1}}, "unknown reset option 'taks': did you mean 'task"),
        ({"options": {"tasks": tasks_of("reacher-goal", 2)}}, "expected 5 tasks, one per environment, got 2"),
        ({"options": {"tasks": tasks_of("cheetah-velocity", 5)}}, "expected a task of family 'reacher-goal'"),
        ({"options": {"tasks": [None] * 5}}, "environment 0 has none"),
        ({"options": {"tasks": tasks_of("reacher-goal")[0]}}, "expected a sequence of 5 tasks, got Task"),
        ({"options": {"tasks": tasks_of("reacher-goal"), "parameters": {}}}, "not both"),
        ({"options": {"reset_mask": np.zeros(5, np.bool_)}}, "with one True at least"),
        ({"options": {"reset_mask": np.ones(4, np.bool_)}}, r"bool of shape \(5,\)"),
        ({"options": {"reset_mask": np.ones(5)}}, r"bool of shape \(5,\)"),
        ({"options": {"reset_mask": np.arange(5) == 0, "parameters": {}}}, "not under reset_mask"),
    ],
)
def test_a_bad_reset_is_refused_and_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    env, same = our_envs("reacher-goal"), our_envs("reacher-goal")
    env.reset(seed=0), same.reset(seed=0)
    with pytest.raises(MetaMapError, match=message):
        env.reset(**arguments)
    for action in actions_of("reacher-goal", HORIZON + 2):
        assert_equal(same.step(action), env.step(action))


def test_bad_steps_are_refused() -> None:
    env = our_envs("reacher-goal", "disabled")
    with pytest.raises(MetaMapError, match=r"call reset\(\)"):
        env.step(np.zeros((N, 2)))
    with pytest.raises(MetaMapError, match="first reset must be of all"):
        env.reset(options={"reset_mask": np.arange(N) == 0})
    env.reset(seed=0)
    with pytest.raises(MetaMapError, match=r"expected shape \(5, 2\), got \(2, 5\)"):
        env.step(np.zeros((2, 5)))
    with pytest.raises(MetaMapError, match="action of environment 3 is not finite"):
        env.step(np.where(np.arange(N)[:, None] == 3, np.nan, np.zeros((N, 2))))
    for _ in range(HORIZON):
        env.step(np.zeros((N, 2)))
    with pytest.raises(MetaMapError, match="environment 0 has ended"):
        env.step(np.zeros((N, 2)))
    env.close()
