"""Physics of each family against models that were compiled with its values in the MJCF, and against its sources."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import FamilyEnv, State, Task, get_family, list_families
from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._half_cheetah import ACTUATORS


def numbers(model: mujoco.MjModel) -> dict[str, NDArray[Any]]:
    """All number arrays of a model that physics depend on; names and text are bytes."""
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    arrays = {
        name: value for name, value in fields.items() if isinstance(value, np.ndarray) and value.dtype.kind != "S"
    }
    option = model.opt
    return arrays | {"gravity": option.gravity, "fluid": np.array([option.density, option.viscosity])}


def assert_equal_models(found: mujoco.MjModel, expected: mujoco.MjModel, *, rtol: float = 1e-9) -> None:
    """Equal but for rounding: masses are multiplied in another order."""
    others = numbers(expected)
    for name, array in numbers(found).items():
        np.testing.assert_allclose(array, others[name], rtol=rtol, atol=1e-12 if rtol else 0.0, err_msg=name)


def explicit_bodies(spec: mujoco.MjSpec, mass: dict[str, float], inertia: dict[str, float]) -> None:
    """Write masses and inertias of the compiled bodies, times factors, into the spec itself."""
    compiled = spec.compile()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    for body in spec.bodies[1:]:
        same = compiled.body(body.name)
        body.explicitinertial = True
        body.mass = same.mass[0] * mass.get(body.name, 1.0)
        body.inertia = same.inertia * inertia.get(body.name, 1.0)
        body.ipos, body.iquat = same.ipos, same.iquat


def compiled_cheetah_actuators(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    for name in ACTUATORS:
        spec.actuator(name).gear[0] *= task[f"sign_{name}"] * task[f"strength_{name}"]
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_direction(task: Task) -> mujoco.MjModel:
    model = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0).compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_dynamics(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    for joint in spec.joints:
        joint.damping = joint.damping * task["damping"]
    for geom in spec.geoms:
        geom.friction = geom.friction * task["friction"]
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_crippled(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    spec.actuator(ACTUATORS[int(task["crippled_joint"])]).gear[0] = 0.0
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_by_powers(asset: str, task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset(asset)
    bodies = [body.name for body in spec.bodies[1:]]
    mass, inertia = 1.5 ** task["mass_power"], 1.5 ** task["inertia_power"]
    explicit_bodies(spec, dict.fromkeys(bodies, mass), dict.fromkeys(bodies, inertia))
    for geom in spec.geoms:
        geom.friction = geom.friction * 1.5 ** task["friction_power"]
    for joint in spec.joints:
        joint.damping = joint.damping * 1.3 ** task["damping_power"]
    return spec.compile()


def compiled_hopper_dynamics(task: Task) -> mujoco.MjModel:
    return compiled_by_powers("hopper.xml", task)


def compiled_walker_dynamics(task: Task) -> mujoco.MjModel:
    return compiled_by_powers("walker2d_v5.xml", task)


def compiled_walker_gravity(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("walker2d_v5.xml")
    spec.option.gravity = (0.0, 0.0, -task["gravity"])
    return spec.compile()


def compiled_swimmer_viscosity(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("swimmer.xml")
    spec.option.viscosity, spec.option.density = task["viscosity"], task["density"]
    return spec.compile()


def compiled_cartpole_swingup(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("inverted_pendulum.xml")
    explicit_bodies(spec, {"pole": task["pole_mass"]}, {"pole": task["pole_mass"]})
    spec.joint("hinge").limited = mujoco.mjtLimited.mjLIMITED_FALSE
    spec.actuator("slide").ctrlrange = (-1.0, 1.0)
    spec.actuator("slide").gear[0] = 300.0 * task["sign_motor"] * task["strength_motor"]
    spec.option.gravity = (0.0, 0.0, -task["gravity"])
    return spec.compile()


COMPILED = {
    "cheetah-actuators": compiled_cheetah_actuators,
    "cheetah-direction": compiled_cheetah_direction,
    "cheetah-dynamics": compiled_cheetah_dynamics,
    "cheetah-crippled": compiled_cheetah_crippled,
    "cheetah-velocity-actuators": compiled_cheetah_actuators,
    "hopper-dynamics": compiled_hopper_dynamics,
    "walker-dynamics": compiled_walker_dynamics,
    "walker-gravity": compiled_walker_gravity,
    "swimmer-viscosity": compiled_swimmer_viscosity,
    "cartpole-swingup": compiled_cartpole_swingup,
}


def test_every_family_that_changes_physics_is_here() -> None:
    assert set(COMPILED) == {name for name in list_families() if get_family(name).physics_parameters}


@pytest.mark.parametrize("name", COMPILED)
def test_values_written_into_the_mjcf_before_compilation_give_the_same_model(name: str) -> None:
    family, rtol = get_family(name), 0.0 if COMPILED[name] is compiled_cheetah_actuators else 1e-9
    for split in ("train", "test-out"):
        (task,) = family.sample(split, 1, 0)
        assert_equal_models(family.model(task), COMPILED[name](task), rtol=rtol)
    with pytest.raises(AssertionError):
        assert_equal_models(family.base_model, COMPILED[name](task), rtol=rtol)


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


@pytest.mark.parametrize("thicker", [{"viscosity": 30.0}, {"density": 8000.0}])
def test_a_swimmer_that_glides_is_stopped_sooner_by_a_thicker_fluid(thicker: dict[str, float]) -> None:
    def left_over(parameters: dict[str, float]) -> float:
        env = FamilyEnv("swimmer-viscosity", parameters=parameters)
        env.reset(seed=0)
        env.data.qpos[:], env.data.qvel[:] = 0.0, [1.0, 0.0, 0.0, 0.0, 0.0]
        for _ in range(5):
            env.step(np.zeros(2))
        return float(env.data.qvel[0])

    assert 0.0 < left_over(thicker) < left_over({}) < left_over({"density": 400.0}) < 1.0


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
