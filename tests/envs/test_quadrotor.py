"""Quadrotors: their flight against l2f's and against an integration in NumPy; starts, ends, rewards and targets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metamap_envs import FamilyEnv, FamilyVectorEnv, Task, get_family
from metamap_envs.changing import ChangingVectorEnv
from metamap_envs.families._quadrotor import Quadrotor

Numbers = NDArray[np.float64]
FAMILY = cast("Quadrotor", get_family("quadrotor-hover"))
L2F = json.loads((Path(__file__).parent / "l2f_trajectories.json").read_text())


def flying(parameters: dict[str, float], start: dict[str, Any], name: str = FAMILY.name) -> FamilyEnv:
    env = FamilyEnv(name, parameters=parameters)
    env.reset(seed=0)
    orientation = np.array(start["orientation"])
    env.data.qpos[:] = [*start["position"], *orientation / np.linalg.norm(orientation)]
    env.data.qvel[:] = [*start["linear_velocity"], *start["angular_velocity"]]
    env.data.act[:4] = start["rpm"]
    return env


def state_of(env: FamilyEnv) -> dict[str, Numbers]:
    data = env.data
    return {
        "position": data.qpos[:3].copy(),
        "orientation": data.qpos[3:7].copy(),
        "linear_velocity": data.qvel[:3].copy(),
        "angular_velocity": data.qvel[3:].copy(),
        "rpm": data.act[:4].copy(),
    }


@pytest.mark.parametrize("vehicle", L2F["flights"])
def test_flight_is_that_of_l2f(vehicle: str) -> None:
    """Tolerance: l2f computes in single precision, and takes one RK4 step of 10 ms where we take two of 5 ms.

    After a second, at up to 10 m/s and 9 rad/s, the difference is at most 2e-4 in all numbers.
    """
    flight = L2F["flights"][vehicle]
    env = flying(flight["parameters"], L2F["start"])
    for number, action in enumerate(flight["actions"], 1):
        env.step(np.array(action))
        if number % L2F["every"] == 0:
            for name, value in state_of(env).items():
                expected = flight["states"][number // L2F["every"] - 1][name]
                np.testing.assert_allclose(value, expected, atol=5e-4, err_msg=f"{name} after step {number}")


def rate_of_change(state: Numbers, wanted: Numbers, task: Task) -> Numbers:
    """The equations of motion, without payload: position, quaternion, velocities, speeds of the rotors."""
    quaternion, velocity, rates, speeds = state[3:7], state[7:10], state[10:13], state[13:]
    w, vector = quaternion[0], quaternion[1:]
    arm = 0.028 * math.cbrt(task["mass"] / 0.0306) * task["arm"]  # along each axis
    largest = task["thrust_to_weight"] * task["mass"] * 9.81 / 4
    strengths = np.array([task[f"rotor_{number}"] for number in (1, 2, 3, 4)])
    curve = np.array([0.00352526, 0.01437313, 0.09223048]) / 0.11012887
    thrusts = largest * strengths * (curve[0] + curve[1] * speeds + curve[2] * speeds**2)
    inertia = np.array([9.416556729130406e-06, 9.644051701582312e-06, 1.745951732253285e-05])
    inertia *= math.sqrt(2.0) * arm * largest / task["torque_to_inertia"] / inertia[0]
    x, y = arm * np.array([1, -1, -1, 1]), arm * np.array([-1, -1, 1, 1])
    yaw = task["torque_constant"] * np.array([-1, 1, -1, 1])
    torque = np.array([(y * thrusts).sum(), -(x * thrusts).sum(), (yaw * thrusts).sum()])
    lift = np.array([0.0, 0.0, thrusts.sum() / task["mass"]])
    force = lift + 2.0 * np.cross(vector, np.cross(vector, lift) + w * lift)
    force += 9.81 * np.array([task["wind_x"], task["wind_y"], -1.0])
    turning = 0.5 * np.array([-vector @ rates, *(w * rates + np.cross(vector, rates))])
    tau = np.where(wanted >= speeds, task["motor_rise"], task["motor_fall"])
    spin = (torque - np.cross(rates, inertia * rates)) / inertia
    return np.concatenate([velocity, turning, force, spin, (wanted - speeds) / tau])


def integrated(state: Numbers, action: Numbers, task: Task, substeps: int = 5) -> Numbers:
    """10 ms in fine steps of RK4."""
    wanted, seconds = (np.clip(action, -1.0, 1.0) + 1.0) / 2.0, 0.01 / substeps
    for _ in range(substeps):
        one = rate_of_change(state, wanted, task)
        two = rate_of_change(state + seconds / 2 * one, wanted, task)
        three = rate_of_change(state + seconds / 2 * two, wanted, task)
        four = rate_of_change(state + seconds * three, wanted, task)
        state = state + seconds / 6 * (one + 2 * two + 2 * three + four)
        state[3:7] /= np.linalg.norm(state[3:7])
    return state


@pytest.mark.parametrize("split", ["train", "test-out"])
def test_flight_is_that_of_an_integration_in_numpy(split: str) -> None:
    """Tolerance of 1 mm, .01 of a quaternion, .01 m/s, .1 rad/s: within 5 ms the thrust is its mean."""
    for drawn in FAMILY.sample(split, 2, 0):
        task = FAMILY.task({**dict(drawn.parameters), "payload": 0.0})
        env = flying(dict(task.parameters), L2F["start"])
        state = np.concatenate(list(state_of(env).values()))
        scale = np.repeat([0.1, 0.1, 1.0, 10.0, 1.0], [3, 4, 3, 3, 4])
        for n in range(25):
            action = np.sin(0.3 * n * np.arange(1, 5)) * (0.1 if n < 18 else 1.2)
            state = integrated(state, action, task)
            env.step(action)
            error = (np.concatenate(list(state_of(env).values())) - state) / scale
            assert np.abs(error).max() < 0.01, (n, error)


def test_a_payload_weighs_and_pulls_to_its_side() -> None:
    hover = {"thrust_to_weight": 3.0, "motor_rise": 0.03}
    start = {**L2F["start"], "orientation": [1, 0, 0, 0], "linear_velocity": [0, 0, 0], "angular_velocity": [0, 0, 0]}
    plain, loaded = (flying({**hover, "payload": payload}, start) for payload in (0.0, 0.2))
    for env in (plain, loaded):
        env.data.act[:4] = 0.5
        for _ in range(10):
            env.step(np.zeros(4))
    assert loaded.data.qvel[2] < plain.data.qvel[2] - 0.05
    assert np.abs(plain.data.qvel[3:]).max() < 1e-9
    assert loaded.data.qvel[3] < -0.05  # it hangs forward and to the left
    assert loaded.data.qvel[4] > 0.05


@pytest.mark.parametrize("name", ["quadrotor-hover", "quadrotor-tracking"])
def test_observations_are_raptors(name: str) -> None:
    family = cast("Quadrotor", get_family(name))
    env = FamilyEnv(name, task=family.sample("train", 1, 0)[0])
    for seed in range(3):
        env.reset(seed=seed)
        action = np.array([0.1, -0.2, 0.3, -1.7])
        observation, *_ = env.step(action)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, env.data.qpos[3:7])
        target = np.zeros(6) if name == FAMILY.name else env.data.act[9:]
        np.testing.assert_allclose(observation[:3], env.data.qpos[:3] - target[:3])
        np.testing.assert_allclose(observation[3:12], rotation, atol=1e-14)
        np.testing.assert_allclose(observation[12:15], env.data.qvel[:3] - target[3:])
        np.testing.assert_array_equal(observation[15:18], env.data.qvel[3:])
        np.testing.assert_allclose(observation[18:], [0.1, -0.2, 0.3, -1.0], atol=1e-12)


def test_starts_are_within_their_bounds_and_some_are_at_hover() -> None:
    task = FAMILY.sample("train", 1, 0)[0]
    (arm,) = FAMILY.arms(task.values[None])
    vector = FamilyVectorEnv([task] * 300)
    observations, _ = vector.reset(seed=0)
    at_rest = (observations[:, :3] == 0).all(axis=1) & (observations[:, 12:18] == 0).all(axis=1)
    assert 10 < at_rest.sum() < 60
    distance = np.abs(observations[:, :3]) / arm
    assert 9.0 < distance.max() <= 10.0
    assert 0.9 < np.abs(observations[:, 12:15]).max() <= 1.0
    angles = np.arccos((observations[:, [3, 7, 11]].sum(axis=1) - 1) / 2)
    assert 0.9 < angles.max() <= 1.0 + 1e-9
    assert -1.0 <= observations[:, 18:].min() < -0.9
    assert -0.1 < observations[:, 18:].max() <= 0.0


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    split=st.sampled_from(["train", "test-out"]),
    action=st.lists(st.floats(-3, 3), min_size=4, max_size=4),
)
def test_rewards_are_bounded_and_the_sum_of_their_terms(seed: int, split: str, action: list[float]) -> None:
    env = FamilyEnv(FAMILY.name, task=FAMILY.sample(split, 1, seed)[0])
    env.reset(seed=seed)
    for _ in range(3):
        _, reward, _, _, info = env.step(np.array(action))
        terms = [value for name, value in info.items() if name.startswith("reward_")]
        assert len(terms) == 4
        assert all(term <= 0 for term in terms)
        assert 0.0 <= reward <= 1.0
        assert reward == pytest.approx(1.0 + sum(terms))


@pytest.mark.parametrize(
    ("field", "value", "ends"),
    [(0, 19.9, False), (0, -20.1, True), (2, 20.1, True)],
)
def test_episodes_end_far_from_the_target(field: int, value: float, ends: bool) -> None:
    env = FamilyEnv(FAMILY.name)
    env.reset(seed=0)
    env.data.qpos[:], env.data.qvel[:] = [0, 0, 0, 1, 0, 0, 0], 0
    env.data.qpos[field] = value * 0.028 * math.sqrt(2.0)
    assert env.step(np.zeros(4))[2] is ends


@pytest.mark.parametrize(("field", "value"), [(1, 10.5), (4, -36.0)])
def test_episodes_end_at_high_speed_and_in_a_tumble(field: int, value: float) -> None:
    env = FamilyEnv(FAMILY.name)
    env.reset(seed=0)
    env.data.qpos[:], env.data.qvel[:] = [0, 0, 0, 1, 0, 0, 0], 0
    assert not env.step(np.zeros(4))[2]
    env.data.qvel[field] = value
    assert env.step(np.zeros(4))[2]


@pytest.mark.parametrize("name", ["quadrotor-hover", "quadrotor-tracking"])
def test_snapshots_hold_the_rotors(name: str) -> None:
    family = get_family(name)
    tasks = family.sample("train", 4, 0)
    envs = [
        ChangingVectorEnv(tasks, draw=lambda count, generator: family.sample("train", count, generator), seed=0)
        for _ in range(2)
    ]
    actions = 0.2 * np.random.default_rng(0).uniform(-1, 1, (12, 4, 4))
    for env in envs:
        env.reset(seed=5)
    for step, action in enumerate(actions):
        if step == 6:
            snapshots = [envs[0].snapshot(index) for index in range(4)]
            envs[1].reset(seed=77)
            envs[1]._restore(np.arange(4), snapshots)
        first, second = (env.step(action) for env in envs)
        if step >= 6:
            assert first[0].tobytes() == second[0].tobytes()
            assert first[1].tobytes() == second[1].tobytes()


def test_the_target_moves_along_its_curve_and_goes_on_where_it_was() -> None:
    family = get_family("quadrotor-tracking")
    task = family.task({"size": 3.0, "period": 5.0})
    env = FamilyEnv(family.name, task=task)
    env.reset(seed=0)
    half, places = 3.0 * 0.028 * math.sqrt(2.0), [env.data.act[9:12].copy()]
    np.testing.assert_array_equal(places[0], 0.0)
    for _ in range(125):  # a quarter of the curve
        before = env.data.act[12:].copy()
        env.step(np.zeros(4))
        places.append(env.data.act[9:12].copy())
        np.testing.assert_allclose((places[-1] - places[-2]) / 0.01, (before + env.data.act[12:]) / 2, atol=1e-4)
    np.testing.assert_allclose(places[-1], [half, 0.0, 0.0], atol=1e-9)
    env.set_task(family.task({"size": 6.0, "period": 5.0}))
    env.step(np.zeros(4))
    assert env.data.act[9] == pytest.approx(2 * half, rel=1e-3)


def test_controls_are_computed_before_every_mujoco_step_only_where_they_depend_on_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, calls in ((FAMILY.name, FAMILY.frame_skip), ("cheetah-velocity", 1)):
        family, counted = get_family(name), []
        plain = type(family).controls
        monkeypatch.setattr(type(family), "controls", lambda *args: counted.append(1) or plain(*args))  # noqa: B023
        env, vector = FamilyEnv(name), FamilyVectorEnv([family.task()])
        env.reset(seed=0), vector.reset(seed=0)
        counted.clear()
        env.step(np.zeros(family.action_size))
        assert len(counted) == calls
        vector.step(np.zeros((1, family.action_size)))
        assert len(counted) == 2 * calls
