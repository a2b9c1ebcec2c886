"""Schedules of tasks: documents, what they do to one environment, and that many environments do the same."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_vector import assert_equal

from metamap_envs import FamilyEnv, FamilyVectorEnv, MetaMapError, ScheduledTasks, Task, TaskSchedule, get_family
from metamap_envs.scheduled import ScheduleRun, check_schedule

EVERYTHING = {
    "split": "train",
    "changes": [
        {"step": 3, "parameters": {"sign_bthigh": -1}},
        {"every": 5, "draw": ["sign_ffoot", "strength_ffoot"]},
    ],
    "resample": {"probability": 0.2, "parameters": ["strength_bshin"]},
    "drift": [
        {"parameter": "strength_bthigh", "kind": "line", "to": 0.6, "over": 4, "start": 1},
        {"parameter": "strength_fthigh", "kind": "walk", "deviation": 0.05},
        {"parameter": "strength_fshin", "kind": "sinusoid", "amplitude": 0.2, "period": 8, "every": 2},
    ],
}


def course(schedule: dict[str, Any], family: str, steps: int, seed: int = 0, **start: float) -> list[Task]:
    """Tasks of so many steps of an environment that starts with a task."""
    found = get_family(family)
    run, task = ScheduleRun(TaskSchedule.from_json(schedule), found), found.task(start)
    run.begin(task, seed)
    tasks = []
    for _ in range(steps):
        task = run.next(task)
        tasks.append(task)
    return tasks


# documents ------------------------------------------------------------------------------------------------------------


def test_a_schedule_is_read_from_yaml_and_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "change.yaml"
    path.write_text("clock: run\nresample:\n  probability: 1e-2\nchanges:\n- step: 40\n  draw: all\n")
    schedule = TaskSchedule.read(path)
    assert schedule.resample is not None
    assert (schedule.clock, schedule.resample.probability, schedule.parameters) == ("run", 0.01, ("all",))
    again = TaskSchedule.from_json(json.loads(json.dumps(schedule.to_json())))
    assert again == schedule
    assert TaskSchedule.from_json(EVERYTHING).to_json()["drift"][0] == EVERYTHING["drift"][0]  # type: ignore[index]
    with pytest.raises(ValueError, match="frozen"):
        schedule.clock = "episode"
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"chnages": []}, "did you mean 'changes'"),
        ({"clock": "runs"}, "clock: unknown choice 'runs': did you mean 'run'"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"changes": [{"step": 0, "draw": "all"}]}, r"changes\[0\].step: expected .* 1, got 0"),
        ({"changes": [{"step": 3}]}, "a change needs parameters"),
        ({"changes": [{"step": 3, "every": 3, "draw": "all"}]}, "either step or every"),
        ({"changes": [{"step": 3, "draw": "all", "parameters": {"delay": 1}}]}, "not both"),
        ({"resample": {"probability": 1.5}}, "resample.probability: expected .* 1"),
        ({"resample": {"probability": 0}}, "resample.probability: expected .* 0"),
        ({"split": "custom", "resample": {"probability": 0.1}}, "nothing can be drawn from the split 'custom'"),
        ({"drift": [{"parameter": "x", "kind": "linear", "to": 1, "over": 3}]}, "did you mean 'line'"),
        ({"drift": [{"parameter": "x", "kind": "line", "to": 1}]}, "kind line needs over"),
        ({"drift": [{"parameter": "x", "kind": "walk", "deviation": 1, "to": 1}]}, "kind walk has no to"),
        ({"drift": [{"parameter": "x", "kind": "walk", "deviation": 1}] * 2}, "'x' has several drifts"),
        ([], "expected a mapping of settings, got list"),
    ],
)
def test_a_bad_document_is_refused_in_words(document: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        TaskSchedule.from_json(document)


@pytest.mark.parametrize(
    ("family", "document", "message"),
    [
        ("cheetah-actuators", {"resample": {"probability": 0.1, "parameters": ["sing_bshin"]}}, "mean 'sign_bshin'"),
        ("cheetah-actuators", {"changes": [{"step": 1, "parameters": {"sign_bshin": 0}}]}, "expected one of"),
        ("cheetah-actuators", {"changes": [{"step": 1, "parameters": {"strength_bshin": 9}}]}, r"in \[0.1, 2\]"),
        (
            "cheetah-actuators",
            {"changes": [{"step": 1, "parameters": {"strength_bshin": 0.4}}]},
            r"0.4 is outside of split 'train', \[0.5, 1\] \(closest is 0.5\)",
        ),
        ("cheetah-actuators-delay", {"changes": [{"step": 1, "parameters": {"delay": 4}}]}, "is not in split 'train'"),
        (
            "cheetah-actuators",
            {"drift": [{"parameter": "sign_bshin", "kind": "walk", "deviation": 1}]},
            "has choices and cannot drift",
        ),
        (
            "cheetah-actuators",
            {"drift": [{"parameter": "strength_bshin", "kind": "line", "to": 0.2, "over": 3}]},
            "outside of split",
        ),
        ("pendulum-torque", {"resample": {"probability": 0.1}}, "'gravity' cannot change in mid-episode"),
    ],
)
def test_a_schedule_that_does_not_fit_the_family_is_refused(family: str, document: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        check_schedule(TaskSchedule.from_json(document), get_family(family))


def test_what_the_split_allows_is_taken() -> None:
    change = {"changes": [{"step": 1, "parameters": {"strength_bshin": 0.4}}]}
    check_schedule(TaskSchedule.from_json({**change, "split": "test-out"}), get_family("cheetah-actuators"))
    broken = {"split": "custom", "changes": [{"step": 1, "parameters": {"strength_bshin": 0.1}}]}
    check_schedule(TaskSchedule.from_json(broken), get_family("cheetah-actuators"))
    with pytest.raises(MetaMapError, match="PendulumEnv is not of one"):
        ScheduledTasks(gym.make("Pendulum-v1"), TaskSchedule())


# what changes when ----------------------------------------------------------------------------------------------------


def test_changes_at_given_steps_and_whole_tasks() -> None:
    velocity = "target_velocity"
    document = {"changes": [{"step": 2, "parameters": {velocity: 1.0}}, {"every": 3, "parameters": {velocity: 2.0}}]}
    found = [task[velocity] for task in course(document, "cheetah-velocity", 8, target_velocity=0.5)]
    assert found == [0.5, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    first, second = get_family("cheetah-actuators").sample("test-in", 2, 0)
    schedule = TaskSchedule.of_tasks({2: first, 4: second})
    ids = [task.id for task in course(schedule.to_json(), "cheetah-actuators", 6)]
    assert ids[2:] == [first.id, first.id, second.id, second.id]


def test_the_share_of_resampled_steps_is_the_probability() -> None:
    document = {"resample": {"probability": 0.1}}
    found = [task.id for task in course(document, "cheetah-velocity", 1000)]
    assert 60 < sum(one != other for one, other in itertools.pairwise(found)) < 140
    assert all(0.0 <= task["target_velocity"] <= 3.0 for task in course(document, "cheetah-velocity", 200))


def test_a_line_ends_where_it_should_and_goes_on_from_where_something_else_left_it() -> None:
    line = {"parameter": "target_velocity", "kind": "line", "to": 2.0, "over": 4, "start": 2}
    found = [task["target_velocity"] for task in course({"drift": [line]}, "cheetah-velocity", 9, target_velocity=1.0)]
    assert found == [1.0, 1.0, 1.0, 1.25, 1.5, 1.75, 2.0, 2.0, 2.0]
    jump = {"changes": [{"step": 4, "parameters": {"target_velocity": 0.0}}], "drift": [line]}
    found = [task["target_velocity"] for task in course(jump, "cheetah-velocity", 9, target_velocity=1.0)]
    assert found == [1.0, 1.0, 1.0, 1.25, 0.0, 1.0, 2.0, 2.0, 2.0]
    slowly = {"drift": [{**line, "every": 3}]}
    found = [task["target_velocity"] for task in course(slowly, "cheetah-velocity", 10, target_velocity=1.0)]
    assert found == [1.0, 1.0, 1.0, 1.0, 1.0, 1.75, 1.75, 1.75, 2.0, 2.0]


def test_a_sinusoid_swings_around_the_value_and_an_angle_goes_round() -> None:
    wave = {"parameter": "target_velocity", "kind": "sinusoid", "amplitude": 0.5, "period": 4}
    found = [task["target_velocity"] for task in course({"drift": [wave]}, "cheetah-velocity", 6, target_velocity=1.0)]
    assert found == pytest.approx([1.0, 1.5, 1.0, 0.5, 1.0, 1.5], abs=1e-6)
    walk = {"parameter": "goal_angle", "kind": "walk", "deviation": 2.0}
    turned = [task["goal_angle"] for task in course({"drift": [walk]}, "reacher-goal", 50)]
    assert all(-math.pi <= angle <= math.pi for angle in turned)
    assert max(turned) > 2.0 > -2.0 > min(turned)


@given(
    seed=st.integers(0, 2**32),
    split=st.sampled_from(["train", "test-out", "custom"]),
    deviation=st.floats(1e-3, 20.0),
    amplitude=st.floats(-20.0, 20.0),
    every=st.integers(1, 4),
    start=st.floats(0.0, 3.0),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_drift_stays_in_the_range_and_the_same_seed_gives_the_same_course(
    seed: int, split: str, deviation: float, amplitude: float, every: int, start: float
) -> None:
    parameter = get_family("cheetah-velocity").space.parameters[0]
    high = {"train": 3.0, "test-out": 3.5, "custom": parameter.high}[split]
    low = parameter.low if split == "custom" else 0.0
    for kind in ({"kind": "walk", "deviation": deviation}, {"kind": "sinusoid", "amplitude": amplitude, "period": 7.3}):
        document = {"split": split, "drift": [{"parameter": "target_velocity", "every": every, **kind}]}
        found = course(document, "cheetah-velocity", 12, seed, target_velocity=start)
        assert all(low <= task["target_velocity"] <= high for task in found)
        assert found == course(document, "cheetah-velocity", 12, seed, target_velocity=start)
        assert all(found[step] == found[step - 1] for step in range(1, 12) if step % every)


# environments ---------------------------------------------------------------------------------------------------------


def actions_of(steps: int, count: int) -> Any:
    return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, count, 6)).astype(np.float32)


@pytest.mark.parametrize("clock", ["episode", "run"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_many_environments_do_what_single_ones_do(clock: str, mode: AutoresetMode) -> None:
    schedule = TaskSchedule.from_json({**EVERYTHING, "clock": clock})
    family = get_family("cheetah-actuators")
    tasks = family.sample("train", 3, 0)

    def single(task: Task) -> gym.Env[Any, Any]:
        return ScheduledTasks(gym.make(family.gym_id, task=task, max_episode_steps=9), schedule)

    theirs = SyncVectorEnv([lambda task=task: single(task) for task in tasks], autoreset_mode=mode)
    ours = FamilyVectorEnv(tasks, horizon=9, autoreset_mode=mode, num_threads=2, schedule=schedule)
    assert_equal(theirs.reset(seed=[5, 6, 7])[0], ours.reset(seed=[5, 6, 7])[0])
    seen: list[str] = []
    for step, action in enumerate(actions_of(26, 3)):
        if step == 4 and mode is not AutoresetMode.DISABLED:  # from here on episodes do not end together
            options: Any = {"reset_mask": np.array([True, False, False])}
            assert_equal(theirs.reset(options=dict(options))[0], ours.reset(options=dict(options))[0])
        if step == 13:
            ours = pickle.loads(pickle.dumps(ours))  # noqa: S301
        expected, found = theirs.step(action), ours.step(action)
        assert_equal(expected, found, f"step {step}")
        seen += found[4]["task"].tolist()
        done = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and done.any():
            assert_equal(theirs.reset(options={"reset_mask": done})[0], ours.reset(options={"reset_mask": done})[0])
    assert len(set(seen)) > 30


def test_an_episode_starts_with_the_environments_own_task_and_a_run_goes_on() -> None:
    family = get_family("cheetah-actuators")
    change = {"changes": [{"step": 2, "parameters": {"sign_bthigh": -1}}]}
    own, other = family.task(), family.task({"strength_bshin": 0.6})
    for clock in ("episode", "run"):
        env = ScheduledTasks(FamilyEnv("cheetah-actuators"), {**change, "clock": clock})
        assert env.reset()[1]["task"] == own.id
        ids = [env.step(np.zeros(6))[4]["task"] for _ in range(3)]
        assert ids == [own.id, own.id, family.task({"sign_bthigh": -1}).id]
        assert (env.reset()[1]["task"] == own.id) == (clock == "episode")
        assert env.reset(seed=0)[1]["task"] == own.id
        with pytest.raises(MetaMapError, match="unknown reset option"):
            env.reset(options={"tsak": own})
        assert env.reset(options={"task": other})[1]["task"] == other.id
        ids = [env.step(np.zeros(6))[4]["task"] for _ in range(3)]
        assert ids[1:] == [other.id, family.task({"sign_bthigh": -1, "strength_bshin": 0.6}).id]


def test_the_same_seed_gives_the_same_run_and_a_copy_goes_on_alike() -> None:
    def run(env: gym.Env[Any, Any], steps: slice) -> list[Any]:
        return [env.step(action[0]) for action in actions_of(12, 1)[steps]]

    env = ScheduledTasks(FamilyEnv("cheetah-actuators"), TaskSchedule.from_json(EVERYTHING))
    env.reset(seed=3)
    whole = run(env, slice(12))
    env.reset(seed=3)
    assert_equal(run(env, slice(6)), whole[:6])
    twin = copy.deepcopy(env)
    assert_equal(run(env, slice(6, 12)), whole[6:])
    assert_equal(run(twin, slice(6, 12)), whole[6:])


def test_declared_families_follow_a_schedule_and_make_vec_takes_one() -> None:
    change = {"split": "custom", "changes": [{"step": 2, "parameters": {"mass": 1.2}}]}
    env = ScheduledTasks(gym.make(get_family("pendulum-torque").gym_id), change)
    many: Any = gym.make_vec(get_family("pendulum-torque").gym_id, num_envs=2, schedule=change)
    env.reset(seed=0), many.reset(seed=0)
    for _ in range(4):
        expected, found = env.step(np.ones(1)), many.step(np.ones((2, 1)))
        assert found[0][0].tobytes() == expected[0].tobytes()
        assert found[4]["task"][0] == expected[4]["task"]
    assert many.tasks[0]["mass"] == 1.2
    assert env.reset()[1]["task"] == get_family("pendulum-torque").task().id
