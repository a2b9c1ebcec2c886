"""Physics of each family against its sources."""

from __future__ import annotations

import copy
import math
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import FamilyEnv, FamilyVectorEnv, MetaMapError, State, get_family
from metamap_envs.families._half_cheetah import ACTUATORS

# ------------------------------------------------------------------------------------------------------ cartpole


def swing(parameters: dict[str, float], sign: float) -> NDArray[np.float64]:
    """Observations and rewards of 60 random actions times ``sign``, [60, 6]."""
    env = FamilyEnv("cartpole-swingup", parameters=parameters)
    env.reset(seed=0)
    actions = sign * np.random.default_rng(0).uniform(-1.0, 1.0, (60, 1))
    return np.array([np.append(*env.step(action)[:2]) for action in actions])


def test_a_motor_of_the_other_sign_does_the_same_with_opposite_actions() -> None:
    np.testing.assert_array_equal(swing({"sign_motor": -1.0}, -1.0), swing({}, 1.0))
    assert (swing({"sign_motor": -1.0}, 1.0) != swing({}, 1.0)).any()


def test_the_pole_turns_all_the_way_round() -> None:
    env = FamilyEnv("cartpole-swingup")
    env.reset(seed=0)
    env.data.qvel[1] = 25.0
    for _ in range(20):
        env.step(np.zeros(1))
    assert env.data.qpos[1] > 3 * math.pi


@pytest.mark.parametrize(
    ("angle", "x", "speed", "action", "expected"),
    [
        (0.0, 0.0, 0.0, 0.0, 1.0),
        (2 * math.pi, 0.0, 0.0, 0.0, 1.0),
        (math.pi, 0.0, 0.0, 0.0, 0.0),
        (math.pi / 2, 0.0, 0.0, 0.0, 0.5),
        (0.0, 1.0, 0.0, 0.0, 0.55),
        (0.0, -1.0, 0.0, 0.0, 0.55),
        (0.0, 0.0, 5.0, 0.0, 0.55),
        (0.0, 0.0, 0.0, 0.5, 0.95),
        (0.0, 0.0, 0.0, -3.0, 0.8),  # beyond the actuator's range
        (0.0, 1.0, -5.0, 1.0, 0.8 * 0.55**2),
    ],
)
def test_the_reward_of_the_swing_up(angle: float, x: float, speed: float, action: float, expected: float) -> None:
    family = get_family("cartpole-swingup")
    state = State(np.array([[x, angle]]), np.array([[0.0, speed]]))
    reward, terms = family.reward(state, state, np.array([[action]], np.float32), family.task().values[None])
    assert reward[0] == pytest.approx(expected, abs=1e-12)
    assert all(0 <= term[0] <= 1 for term in terms.values())


# ------------------------------------------------------------------------------------------------- the others


def test_rewards_of_the_two_directions_are_opposite_but_for_the_cost_of_actions() -> None:
    family = get_family("cheetah-direction")
    both = np.stack([family.task({"direction": direction}).values for direction in (1.0, -1.0)])
    before, after = (State(np.full((2, 9), place), np.zeros((2, 9))) for place in (0.0, 0.1))
    rewards, terms = family.reward(before, after, np.full((2, 6), 0.5), both)
    np.testing.assert_allclose(terms["x_velocity"], 2.0)
    np.testing.assert_allclose(rewards, [2.0 - 0.05 * 1.5, -2.0 - 0.05 * 1.5])


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 500.0),  # x, which is left out
        *((1, height) for height in (0.7, 0.71, 100.0, 1e6)),
        *((2, angle) for angle in (0.2, 0.19, -0.2, -0.19)),
        *((3, angle) for angle in (100.0, 99.0, -100.0)),
        *((6, speed) for speed in (99.0, -101.0)),
        (11, -100.0),
    ],
)
def test_a_hopper_is_healthy_where_gymnasiums_is(index: int, value: float) -> None:
    base: Any = gym.make("Hopper-v5").unwrapped
    state = np.concatenate([base.init_qpos, base.init_qvel])
    state[index] = value
    base.set_state(state[:6], state[6:])
    family = get_family("hopper-dynamics")
    ended = family.terminated(State(state[None, :6], state[None, 6:]), family.task().values[None])
    assert ended.tolist() == [not base.is_healthy]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 500.0),  # x, which is left out
        *((1, height) for height in (0.8, 0.81, 1.99, 2.0)),
        *((2, angle) for angle in (1.0, 0.99, -1.0, -0.99)),
        (12, 1e6),
    ],
)
def test_a_walker_is_healthy_where_gymnasiums_is(index: int, value: float) -> None:
    base: Any = gym.make("Walker2d-v5").unwrapped
    state = np.concatenate([base.init_qpos, base.init_qvel])
    state[index] = value
    base.set_state(state[:9], state[9:])
    for name in ("walker-dynamics", "walker-gravity"):
        family = get_family(name)
        ended = family.terminated(State(state[None, :9], state[None, 9:]), family.task().values[None])
        assert ended.tolist() == [not base.is_healthy]


@pytest.mark.parametrize("thicker", [{"viscosity": 30.0}, {"density": 8.0}])
def test_a_swimmer_that_glides_is_stopped_sooner_by_a_thicker_fluid(thicker: dict[str, float]) -> None:
    def left_over(parameters: dict[str, float]) -> float:
        env = FamilyEnv("swimmer-viscosity", parameters=parameters)
        env.reset(seed=0)
        env.data.qpos[:], env.data.qvel[:] = 0.0, [1.0, 0.0, 0.0, 0.0, 0.0]
        for _ in range(5):
            env.step(np.zeros(2))
        return float(env.data.qvel[0])

    assert 0.0 < left_over(thicker) < left_over({}) < left_over({"density": 0.4}) < 1.0


@pytest.mark.parametrize("name", ["hopper-dynamics", "walker-dynamics"])
def test_factors_of_hopper_and_walker_are_powers(name: str) -> None:
    family = get_family(name)
    model = family.model(family.task({"mass_power": 3.0, "damping_power": -2.0}))
    np.testing.assert_allclose(model.body_mass, family.base_model.body_mass * 3.375)
    np.testing.assert_allclose(model.dof_damping, family.base_model.dof_damping / 1.69)
    np.testing.assert_array_equal(model.body_inertia, family.base_model.body_inertia)
    np.testing.assert_array_equal(model.geom_friction, family.base_model.geom_friction)


@pytest.mark.parametrize("joint", range(len(ACTUATORS)))
def test_a_crippled_joint_pays_no_heed_to_its_action_and_the_others_do(joint: int) -> None:
    def moved(action: NDArray[np.float64]) -> NDArray[np.float64]:
        env = FamilyEnv("cheetah-crippled", parameters={"crippled_joint": joint})
        env.reset(seed=0)
        return env.step(action)[0]

    rest = moved(np.zeros(6))
    for index, action in enumerate(np.eye(6)):
        assert (moved(action) == rest).all() == (index == joint)


def test_joints_0_to_3_are_crippled_in_training_and_4_and_5_in_test_out() -> None:
    family = get_family("cheetah-crippled")
    for split in ("train", "validation", "test-in"):
        assert {task["crippled_joint"] for task in family.sample(split, 8, 0)} == {0.0, 1.0, 2.0, 3.0}
    assert {task["crippled_joint"] for task in family.sample("test-out", 8, 0)} == {4.0, 5.0}


def test_sign_patterns_are_held_out_alike_in_both_families_of_actuators() -> None:
    plain, both = (get_family(name).space for name in ("cheetah-actuators", "cheetah-velocity-actuators"))
    assert plain.combinations == both.combinations


class Delayed(gym.ActionWrapper[Any, Any, Any]):
    """Hands each action on ``delay`` steps late, and none before; the delay may change."""

    def __init__(self, env: gym.Env[Any, Any], delay: int) -> None:
        super().__init__(env)
        self.delay, self.given = delay, [np.zeros(6)] * 4

    def reset(self, **kwargs: Any) -> Any:
        self.given = [np.zeros(6)] * 4
        return super().reset(**kwargs)

    def action(self, action: Any) -> Any:
        self.given.append(action)
        return self.given[-1 - self.delay]


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4])
def test_a_delay_is_a_queue_of_actions_around_the_family_without_one(delay: int) -> None:
    task = get_family("cheetah-actuators").sample("train", 1, 0)[0]
    parameters = dict(task.parameters)
    plain = Delayed(FamilyEnv("cheetah-actuators", parameters), delay)
    env = FamilyEnv("cheetah-actuators-delay", {**parameters, "delay": delay})
    generator = np.random.default_rng(0)
    for episode, change in enumerate((None, 1, 4)):
        assert plain.reset(seed=episode)[0].tobytes() == env.reset(seed=episode)[0].tobytes()
        for step in range(60):
            if step == 30 and change is not None:
                plain.delay = change
                env.set_task(env.family.task({**parameters, "delay": change}))
            if step == 40:
                env = copy.deepcopy(env)
            action = generator.uniform(-1.0, 1.0, 6)
            expected, found = plain.step(action), env.step(action)
            assert found[0].tobytes() == expected[0].tobytes()
            assert found[4]["reward_velocity"] == expected[4]["reward_velocity"]
            assert found[4]["reward_ctrl"] == pytest.approx(-0.05 * np.square(action).sum())


def test_delays_of_1_to_3_are_trained_on_and_4_is_outside() -> None:
    family = get_family("cheetah-actuators-delay")
    for split in ("train", "validation", "test-in"):
        assert {task["delay"] for task in family.sample(split, 16, 0)} == {1.0, 2.0, 3.0}
    assert {task["delay"] for task in family.sample("test-out", 8, 0)} == {4.0}
    with pytest.raises(MetaMapError, match=r"'delay': expected one of .*, got 2.5"):
        family.task({"delay": 2.5})


# ------------------------------------------------------------------------------------------------------------- ants


def test_an_ant_is_healthy_where_gymnasiums_is() -> None:
    base: Any = gym.make("Ant-v5").unwrapped
    family = get_family("ant-direction")
    for height in (0.19, 0.2, 0.21, 0.99, 1.0, 1.01):
        base.set_state(np.concatenate([[0.0, 0.0, height], base.init_qpos[3:]]), base.init_qvel)
        state = State(base.data.qpos[None].copy(), base.data.qvel[None].copy())
        assert family.terminated(state, family.task().values[None]).tolist() == [not base.is_healthy]


def at(x: float, y: float) -> State:
    """An ant whose torso is there."""
    qpos = np.zeros((1, 15))
    qpos[:, 2] = 0.5
    return State(qpos, np.zeros((1, 14)), {"torso": np.array([[x, y, 0.5]])})


@pytest.mark.parametrize(("degrees", "velocity"), [(0, 2.0), (90, -1.0), (180, -2.0), (-90, 1.0), (45, 0.5**0.5)])
def test_an_ant_is_paid_for_its_velocity_in_the_direction(degrees: float, velocity: float) -> None:
    family = get_family("ant-direction")
    values = family.task({"direction": math.radians(degrees)}).values[None]
    reward, terms = family.reward(at(1.0, 1.0), at(1.1, 0.95), np.full((1, 8), 0.5), values)
    assert terms["reward_forward"][0] == pytest.approx(velocity)
    assert reward[0] == pytest.approx(velocity + 1.0 - 0.5 * 2.0)


def test_an_ant_is_paid_for_being_near_its_goal() -> None:
    family = get_family("ant-goal")
    values = family.task({"goal_radius": 2.0, "goal_angle": math.pi / 2}).values[None]
    rewards = [family.reward(at(0, 0), at(x, y), np.full((1, 8), 0.5), values)[0][0] for x, y in ((0, 2), (-1, 2.5))]
    np.testing.assert_allclose(rewards, [-0.2, -1.7])


# ---------------------------------------------------------------------------------------------------------- lengths


def places(parameters: dict[str, float]) -> dict[str, NDArray[np.float64]]:
    """Positions of the cheetah's bodies as it starts, but for noise."""
    model = get_family("cheetah-length").model(get_family("cheetah-length").task(parameters))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return {model.body(index).name: data.xpos[index].copy() for index in range(1, model.nbody)}


@pytest.mark.parametrize(
    ("parameter", "value", "upper", "lower"),
    [
        ("torso_length", 1.4, "bthigh", "fthigh"),
        ("thigh_length", 1.25, "bthigh", "bshin"),
        ("thigh_length", 0.75, "fthigh", "fshin"),
        ("shin_length", 1.25, "bshin", "bfoot"),
        ("shin_length", 0.75, "fshin", "ffoot"),
    ],
)
def test_each_length_stretches_its_links_and_no_other(parameter: str, value: float, upper: str, lower: str) -> None:
    before, after = places({}), places({parameter: value})
    np.testing.assert_allclose(after[lower] - after[upper], value * (before[lower] - before[upper]), atol=1e-12)
    family = get_family("cheetah-length")
    model = family.model(family.task({parameter: value}))
    assert model.body_mass.sum() == pytest.approx(14.0)
    np.testing.assert_array_equal(model.geom_size[:, 0], family.base_model.geom_size[:, 0])
    np.testing.assert_array_equal(model.actuator_gear, family.base_model.actuator_gear)


@pytest.mark.parametrize("thigh", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("shin", [0.6, 1.0, 1.4])
def test_a_cheetahs_longer_leg_starts_as_high_above_the_floor_at_all_lengths(thigh: float, shin: float) -> None:
    feet = places({"thigh_length": thigh, "shin_length": shin})
    usual = places({})
    assert min(feet[foot][2] - usual[foot][2] for foot in ("bfoot", "ffoot")) == pytest.approx(0.0, abs=1e-12)


def test_a_vector_of_lengths_steps_each_robot_as_it_would_alone() -> None:
    tasks = get_family("cheetah-length").sample("train", 3, 0)
    vector = FamilyVectorEnv(tasks, num_threads=2)
    vector.reset(seed=[0, 1, 2])
    alone = [FamilyEnv("cheetah-length", task=task) for task in tasks]
    for index, env in enumerate(alone):
        env.reset(seed=index)
    generator = np.random.default_rng(0)
    for _ in range(50):
        actions = generator.uniform(-1.0, 1.0, (3, 6))
        observations = vector.step(actions)[0]
        for index, env in enumerate(alone):
            np.testing.assert_array_equal(observations[index], env.step(actions[index])[0])


# --------------------------------------------------------------------------------------------------------- pendulum


@pytest.mark.parametrize(("mass", "length"), [(1.0, 1.0), (0.5, 1.5), (1.6, 0.4)])
def test_a_pendulum_moves_by_the_equation_of_its_source(mass: float, length: float) -> None:
    base: Any = gym.make("Pendulum-v1").unwrapped
    base.m, base.l, base.max_speed = mass, length, np.inf
    env = FamilyEnv("pendulum-swingup", parameters={"mass": mass, "length": length})
    base.reset(seed=0)
    env.reset(seed=0)
    for torque in np.random.default_rng(0).uniform(-2.0, 2.0, 40):
        reward, expected = env.step(np.array([torque / 2.0]))[1], base.step(np.array([torque]))[1]
        assert reward == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(np.concatenate([env.data.qpos, env.data.qvel]), base.state, atol=1e-8)
