"""What every family must keep, checked over the registry: a new family is tested the day it is registered."""

from __future__ import annotations

import copy
import re
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from metamap_envs import (
    Family,
    FamilyEnv,
    FamilyVectorEnv,
    MetaMapError,
    Parameter,
    Task,
    get_family,
    list_families,
    register_family,
    registry,
)
from metamap_envs.assets import dm_control_asset, gymnasium_asset
from metamap_envs.errors import unknown_name

FAMILIES = list_families()
PARAMETERS = [(name, parameter) for name in FAMILIES for parameter in get_family(name).space.parameters]
STEPS = 25  # in which the finger touches its body, with the seed below
PARTNERS = {  # what a parameter needs for an effect
    (family, parameter): partner
    for family in ("go1-velocity", "go1-uneven")
    for parameter, partner in {
        "payload_x": {"payload": 3.0},
        "payload_y": {"payload": 3.0},
        "joint_strength": {"weak_joint": 2.0},
    }.items()
}
STARTS_BY_PHYSICS = ("dmc-cheetah", "dmc-finger", "quadrotor")  # settled; free of contacts; within so many arms


def other_value(parameter: Parameter) -> float:
    """A value well away from the default."""
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice != parameter.default)
    return next(end for pair in parameter.train for end in pair if abs(end - parameter.default) > 1e-3)


def trajectory(env: FamilyEnv, seed: int = 2, steps: int = STEPS) -> tuple[NDArray[Any], NDArray[Any]]:
    """Observations [steps + 1, O] and rewards [steps] under fixed random actions."""
    observations, rewards = [env.reset(seed=seed)[0]], []
    generator = np.random.default_rng(0)
    for _ in range(steps):
        action = generator.uniform(-1.0, 1.0, env.family.action_size).astype(np.float32)
        observation, reward, *_ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), np.array(rewards)


def model_bytes(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def assert_same(first: tuple[NDArray[Any], ...], second: tuple[NDArray[Any], ...]) -> None:
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is")  # as HalfCheetah-v5's own
@pytest.mark.filterwarnings("ignore:.*not tested by check_env")
def test_gymnasium_accepts_it(name: str) -> None:
    check_env(gym.make(get_family(name).gym_id).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_declaration_is_complete(name: str) -> None:
    family = get_family(name)
    assert family.name == name
    assert family is get_family(name)
    assert family.description
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", family.embodiment)
    assert (family.__doc__ or "").count("Reward:") == 1
    assert family.physics_parameters <= set(family.space.names)
    assert all(parameter.description and parameter.unit for parameter in family.space.parameters)
    assert family.base_id in gym.registry or (family.base_id.startswith("dm_control/") and family.requires)
    spec = gym.spec(family.gym_id)
    assert spec.max_episode_steps == family.horizon
    assert spec.vector_entry_point


@pytest.mark.parametrize("embodiment", sorted({get_family(name).embodiment for name in FAMILIES}))
def test_one_policy_fits_all_families_of_an_embodiment(embodiment: str) -> None:
    first, *others = [family for family in map(get_family, FAMILIES) if family.embodiment == embodiment]
    for other in others:
        assert other.observation_size == first.observation_size
        assert other.action_size == first.action_size
        assert_same(other.action_range, first.action_range)


@pytest.mark.parametrize("name", FAMILIES)
def test_spaces_hold_what_the_environment_gives_and_info_names_the_task(name: str) -> None:
    family = get_family(name)
    (task,) = family.sample("train", 1, 0)
    env = gym.make(family.gym_id, task=task)
    observation, info = env.reset(seed=0)
    assert info["task"] == task.id
    assert env.observation_space.shape == (family.observation_size,)
    env.action_space.seed(0)
    for _ in range(3):
        assert observation in env.observation_space
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert info["task"] == task.id
        assert isinstance(reward, float)
        assert not terminated
        assert not truncated


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_outside_the_physics_never_show_in_observations(name: str) -> None:
    family = get_family(name)
    shown = family.physics_parameters | family.sensor_parameters
    hidden = [parameter for parameter in family.space.parameters if parameter.name not in shown]
    if not hidden:
        assert shown == set(family.space.names)
        return
    changed = {parameter.name: other_value(parameter) for parameter in hidden}
    observations, rewards = trajectory(FamilyEnv(name))
    others, other_rewards = trajectory(FamilyEnv(name, parameters=changed))
    np.testing.assert_array_equal(observations, others)
    assert (rewards != other_rewards).any()


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_every_parameter_changes_the_trajectory_or_the_reward(name: str, parameter: Parameter) -> None:
    given: dict[str, object] = {**PARTNERS.get((name, parameter.name), {})}
    observations, rewards = trajectory(FamilyEnv(name, parameters=given))
    given[parameter.name] = other_value(parameter)
    others, other_rewards = trajectory(FamilyEnv(name, parameters=given))
    if parameter.name in get_family(name).sensor_parameters:
        assert (observations != others).any()
        np.testing.assert_array_equal(rewards, other_rewards)
        return
    assert (rewards != other_rewards).any()
    if parameter.name not in get_family(name).physics_parameters or not name.startswith(STARTS_BY_PHYSICS):
        np.testing.assert_array_equal(observations[0], others[0])
    if parameter.name in get_family(name).physics_parameters:
        assert (observations[1:] != others[1:]).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_task_set_after_another_is_as_if_set_alone(name: str) -> None:
    first, second = get_family(name).sample("train", 2, 1)
    env = FamilyEnv(name, task=first)
    trajectory(env)
    env.reset(options={"task": second})
    alone = trajectory(FamilyEnv(name, task=second))
    assert_same(trajectory(env), alone)
    env.reset(options={"parameters": dict(first.parameters)})
    env.reset(options={"task": second.to_json()})
    assert_same(trajectory(env), alone)
    assert env.task == second


@pytest.mark.parametrize("name", FAMILIES)
def test_a_task_is_the_same_as_a_freshly_compiled_model(name: str) -> None:
    family = get_family(name)
    (task,) = family.sample("train", 1, 2)
    assert family.structural_parameters <= family.physics_parameters
    assert model_bytes(family.compile()) == model_bytes(family.compile_task(family.task()))
    assert model_bytes(family.compile()) == model_bytes(family.base_model)
    fresh = family.compile_task(task)
    if family.apply(fresh, task):
        mujoco.mj_setConst(fresh, mujoco.MjData(fresh))
    assert model_bytes(fresh) == model_bytes(family.model(task))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_base_model_is_never_written_to(name: str) -> None:
    family = get_family(name)
    before = model_bytes(family.base_model)
    env = FamilyEnv(name)
    env.model.opt.gravity[:] = 0.0
    for task in family.sample("train", 3, 0):
        env.reset(options={"task": task})
        trajectory(env, steps=2)
    vector = FamilyVectorEnv(family.sample("train", 3, 0), num_threads=1)
    vector.reset(seed=0)
    vector.reset(options={"tasks": family.sample("validation", 3, 0)})
    vector.step(np.zeros((3, family.action_size)))
    assert model_bytes(family.base_model) == before
    assert family.model(family.task()) is family.base_model


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_twice_gives_the_same_bits(name: str) -> None:
    (task,) = get_family(name).sample("train", 1, 5)
    env = FamilyEnv(name, task=task)
    first = trajectory(env)
    assert_same(first, trajectory(env))
    assert_same(first, trajectory(FamilyEnv(name, task=task)))
    assert (first[0] != trajectory(env, seed=4)[0]).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_specs_survive_json_and_the_module_prefix_imports(name: str) -> None:
    family = get_family(name)
    (task,) = family.sample("train", 1, 0)
    env = gym.make(f"metamap_envs:{family.gym_id}", parameters=dict(task.parameters))
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again.unwrapped, FamilyEnv)
    assert again.unwrapped.task.id == task.id
    env = gym.make(family.gym_id, task=task)
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again.unwrapped, FamilyEnv)
    assert again.unwrapped.task == task


@pytest.mark.parametrize("name", FAMILIES)
def test_unstable_physics_end_the_episode(name: str) -> None:
    env = FamilyEnv(name)
    before, _ = env.reset(seed=0)
    env.data.qvel[0] = np.nan
    observation, reward, terminated, _, info = env.step(np.zeros(env.family.action_size))
    assert (reward, terminated, info["diverged"]) == (0.0, True, True)
    np.testing.assert_array_equal(observation, before)  # no transition goes across MuJoCo's own reset
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(np.zeros(env.family.action_size))
    assert not terminated
    assert "diverged" not in info


def test_bad_input_is_refused_in_words() -> None:
    env = FamilyEnv("reacher-goal")
    with pytest.raises(MetaMapError, match=r"call reset\(\) before step"):
        env.step(np.zeros(2))
    with pytest.raises(MetaMapError, match=r"unknown reset option 'tsak': did you mean 'task'"):
        env.reset(options={"tsak": None})
    with pytest.raises(MetaMapError, match="either task or parameters"):
        env.reset(options={"task": env.task, "parameters": {}})
    with pytest.raises(MetaMapError, match="expected a task of family 'reacher-goal'"):
        env.reset(options={"task": get_family("cheetah-velocity").task()})
    with pytest.raises(MetaMapError, match="a Task or its JSON form, got int"):
        env.reset(options={"task": 3})
    env.reset()
    with pytest.raises(MetaMapError, match=r"expected shape \(2,\), got \(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(MetaMapError, match="not finite"):
        env.step(np.array([0.0, np.nan]))
    with pytest.raises(MetaMapError, match="without a render_mode"):
        env.render()
    with pytest.raises(MetaMapError, match="unknown render mode 'rgb': did you mean"):
        FamilyEnv("reacher-goal", render_mode="rgb")
    with pytest.raises(MetaMapError, match=r"no MuJoCo model 'cheetah\.xml'"):
        gymnasium_asset("cheetah.xml")
    with pytest.raises(MetaMapError, match=r"the installed dm_control has no MuJoCo model 'half_cheetah\.xml'"):
        dm_control_asset("half_cheetah.xml")


def test_a_family_whose_models_are_not_installed_is_not_listed_and_names_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "dmc-cheetah-speed" in list_families()
    monkeypatch.setattr(registry, "_installed", lambda module: module != "dm_control")
    assert not [name for name in list_families() if name.startswith("dmc-")]
    assert "cheetah-velocity" in list_families()
    with pytest.raises(MetaMapError, match=r"'dmc-cheetah-speed' needs dm_control.* pip install 'metamap-rl\[dmc\]'"):
        get_family("dmc-cheetah-speed")


def test_two_families_cannot_share_a_name() -> None:
    with pytest.raises(MetaMapError, match="registered twice"):
        register_family(type("Twin", (type(get_family(FAMILIES[0])),), {}))


def test_constants_are_computed_again_where_a_family_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Heavy(type(get_family("cheetah-actuators"))):  # type: ignore[misc]
        def apply(self, model: mujoco.MjModel, task: Task) -> bool:
            model.body_mass[1:] *= 2.0
            model.body_inertia[1:] *= 2.0
            return True

    family: Family = Heavy()
    changed = family.task({"strength_bfoot": 0.5})
    expected = copy.copy(family.base_model)
    family.apply(expected, changed)
    stale = expected.body_subtreemass.copy()
    mujoco.mj_setConst(expected, mujoco.MjData(expected))
    assert (stale != expected.body_subtreemass).any()
    assert model_bytes(family.model(changed)) == model_bytes(expected)


def test_a_name_where_there_is_nothing_to_choose_from() -> None:
    assert "unknown mapper 'x'" in str(unknown_name("mapper", "x", []))
