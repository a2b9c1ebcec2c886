"""Families declared in YAML: each parameter of each example, parity with Gymnasium, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from helpers.models import assert_equal_models, explicit_bodies
from helpers.user_envs import declare
from metamap_envs import (
    Family,
    FamilyVectorEnv,
    MetaMapError,
    Task,
    from_gymnasium,
    get_family,
    registry,
)
from metamap_envs.declarations import read_file
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.from_gymnasium.fields import FIELDS

FOLDER = Path(registry.__file__).parent / "from_gymnasium" / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yml"))
PARAMETERS = [(name, parameter) for name in EXAMPLES for parameter in read_file(FOLDER / f"{name}.yml").parameters]
STEPS = 25


pytestmark = pytest.mark.usefixtures("forgets_declared_families")


def far_task(family: Family, name: str) -> Task:
    """A task with one parameter well away from its default."""
    parameter = next(parameter for parameter in family.space.parameters if parameter.name == name)
    return family.task({name: max(parameter.train[0], key=lambda end: abs(end - parameter.default))})


def actions(family: Family, count: int = 1) -> NDArray[np.float32]:
    """Fixed random actions [STEPS, N, A]; small ones, so that a pole stays up for a while."""
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (STEPS, count, family.action_size))
    return drawn.astype(np.float32)


def trajectory(env: GymnasiumFamilyEnv, seed: int = 3) -> NDArray[Any]:
    """Observations and rewards [STEPS, O + 1], also beyond the end of an episode."""
    env.reset(seed=seed)
    rows = []
    for action in actions(env.family)[:, 0]:
        observation, reward, *_ = env.step(action)
        rows.append([*observation, reward])
    return np.array(rows)


# each parameter of each example -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*calling 'step..' even though this environment has already returned")
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_parameter_changes_the_trajectory_and_leaves_no_trace(name: str, parameter: str) -> None:
    family = get_family(name)
    default, task = family.task(), far_task(family, parameter)
    alone = trajectory(GymnasiumFamilyEnv(name, task=task))
    assert (alone != trajectory(GymnasiumFamilyEnv(name))).any()
    env = GymnasiumFamilyEnv(name, task=family.sample("train", 1, 0)[0])
    trajectory(env)
    env.reset(options={"task": task})
    np.testing.assert_array_equal(trajectory(env), alone)
    env.reset(options={"parameters": {}})
    np.testing.assert_array_equal(trajectory(env), trajectory(GymnasiumFamilyEnv(name, task=default)))


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_parameter_is_as_if_the_environment_had_been_written_with_it(name: str, parameter: str) -> None:
    family = get_family(name)
    task = far_task(family, parameter)
    made = family.make(task).unwrapped  # type: ignore[attr-defined]
    if name == "walker-parts":
        assert_equal_models(made.model, compiled_walker(made.fullpath, task))
    elif name == "cartpole-length":
        expected = vars(WrittenCartPole(task))
        assert {key: vars(made)[key] for key in expected if isinstance(expected[key], float)} == {
            key: value for key, value in expected.items() if isinstance(value, float)
        }
    else:
        pendulum = PendulumEnv(g=task["gravity"])
        pendulum.l, pendulum.m = task["length"], task["mass"]
        assert (made.g, made.l, made.m) == (pendulum.g, pendulum.l, pendulum.m)


class WrittenCartPole(CartPoleEnv):
    """CartPole-v1 with a task's values in the formulas of its constructor."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.gravity, self.masspole, self.length = task["gravity"], task["pole_mass"], task["length"]
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length


def compiled_walker(path: str, task: Task) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(path)
    for geom in spec.body("torso").geoms:
        geom.density *= task["torso_mass"]
    spec.joint("leg_joint").damping *= task["knee_damping"]
    spec.geom("foot_geom").friction[0] = task["foot_friction"]
    spec.actuators[0].gear[0] *= task["hip_strength"]
    spec.option.gravity[2] = task["gravity"]
    return spec.compile()


# every field of MuJoCo's model that may be written --------------------------------------------------------------------

ELEMENTS: dict[str, tuple[int | None, float]] = {
    "inertia": (1, 0.071),
    "mass": (None, 2.5),
    "armature": (None, 0.5),
    "damping": (None, 0.7),
    "frictionloss": (None, 0.3),
    "stiffness": (None, 4.0),
    "friction": (0, 1.9),
    "solimp": (0, 0.8),
    "solref": (0, 0.03),
    "gainprm": (0, 3.0),
    "gear": (0, 40.0),
    "density": (None, 1.2),
    "gravity": (2, -3.7),
    "impratio": (None, 2.0),
    "timestep": (None, 0.001),
    "viscosity": (None, 0.5),
}
"""By field: the element and a value for it."""
OBJECTS = {"body": "leg", "joint": "leg_joint", "geom": "foot_geom", "actuator": "leg_joint"}


@pytest.mark.parametrize(
    ("kind", "field"),  # but for what changes nothing in Walker2d-v5, which has no servos: test_declared_models.py
    [(kind, field) for kind, fields in FIELDS.items() for field in fields if field in ELEMENTS],
)
def test_a_field_equals_a_model_compiled_with_the_value(kind: str, field: str) -> None:
    index, value = ELEMENTS[field]
    target = {"option": field} if kind == "option" else {kind: OBJECTS[kind], "field": field}
    family = declare("Walker2d-v5", **target, index=index, train=[value, value])
    made = family.make(family.task({"p": value})).unwrapped  # type: ignore[attr-defined]
    spec = mujoco.MjSpec.from_file(made.fullpath)
    leg = spec.compile().body("leg")
    if field == "mass":  # the inertia goes with it
        explicit_bodies(spec, {"leg": value / leg.mass[0]}, {"leg": value / leg.mass[0]})
    elif field == "inertia":
        explicit_bodies(spec, {}, {"leg": np.array([1.0, value / leg.inertia[1], 1.0])})  # type: ignore[dict-item]
    else:
        owner: Any = {
            "joint": lambda: spec.joint("leg_joint"),
            "geom": lambda: spec.geom("foot_geom"),
            "actuator": lambda: spec.actuators[1],
            "option": lambda: spec.option,
        }[kind]()
        found = getattr(owner, field)
        if isinstance(found, np.ndarray):
            found[index or 0] = value
        else:
            setattr(owner, field, value)
    assert_equal_models(made.model, spec.compile())
    if kind == "option":
        np.testing.assert_array_equal(getattr(made.model.opt, field), getattr(spec.compile().opt, field))


def test_a_factor_on_all_objects_of_a_kind() -> None:
    family = declare("Hopper-v5", body="*", field="mass", how="scale", train=[0.5, 2.0])
    own, doubled = family.model(family.task()), family.model(family.task({"p": 2.0}))
    np.testing.assert_array_equal(doubled.body_mass, 2.0 * own.body_mass)
    np.testing.assert_array_equal(doubled.body_inertia, 2.0 * own.body_inertia)
    np.testing.assert_allclose(doubled.body_subtreemass, 2.0 * own.body_subtreemass)


# Gymnasium itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_at_the_defaults_it_is_gymnasiums_environment_to_the_bit(name: str) -> None:
    family = get_family(name)
    count = 3
    vector = FamilyVectorEnv([family.task()] * count, autoreset_mode="same_step", horizon=11)
    own = [gym.make(family.base_id, max_episode_steps=11) for _ in range(count)]
    observations, _ = vector.reset(seed=7)
    np.testing.assert_array_equal(observations, [env.reset(seed=7 + index)[0] for index, env in enumerate(own)])
    for row in actions(family, count):
        observations, rewards, terminated, truncated, infos = vector.step(row)
        for index, env in enumerate(own):
            expected = env.step(ActionMap(env.action_space)(row[index]))
            assert (rewards[index], terminated[index], truncated[index]) == expected[1:4]
            ended = terminated[index] or truncated[index]
            last = infos["final_obs"][index] if ended else observations[index]
            np.testing.assert_array_equal(last, expected[0])
            if ended:
                np.testing.assert_array_equal(observations[index], env.reset()[0])
    vector.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_vector_environment_equals_single_ones(name: str) -> None:
    family = get_family(name)
    tasks = family.sample("train", 3, 1)
    vector = FamilyVectorEnv(tasks[:1] * 3)
    vector.reset(options={"tasks": tasks}, seed=5)
    singles = [gym.make(family.gym_id, task=task) for task in tasks]
    for index, env in enumerate(singles):
        env.reset(seed=5 + index)
    for row in actions(family, 3)[:6]:
        observations, rewards, *_ = vector.step(row)
        for index, env in enumerate(singles):
            observation, reward, *_, info = env.step(row[index])
            np.testing.assert_array_equal(observations[index], observation)
            assert rewards[index] == reward
            assert info["task"] == tasks[index].id


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is")
@pytest.mark.filterwarnings("ignore:.*not tested by check_env")
def test_gymnasium_accepts_the_examples_and_they_are_complete(name: str) -> None:
    family = get_family(name)
    assert family is get_family(name)
    assert family.name == name
    assert family.sample("test-out", 2, 0) != family.sample("validation", 2, 0)
    spec = gym.spec(family.gym_id)
    assert spec.max_episode_steps == family.horizon
    check_env(gym.make(spec).unwrapped, skip_render_check=True)
    assert 0.0 < family.step_seconds < 1.0


def test_a_box_of_another_range_is_scaled() -> None:
    family = get_family("pendulum-torque")
    np.testing.assert_array_equal(family.action_range, [[-1.0], [1.0]])
    taken = [ActionMap(gym.make(family.base_id).action_space)(np.array([a], np.float32)) for a in (-1.0, 0.5)]
    np.testing.assert_array_equal(taken, np.array([[-2.0], [1.0]], np.float32))


def test_the_range_of_actions_is_the_tasks_own() -> None:
    family = declare(attribute="max_torque", train=[1.0, 4.0])
    weak, own, strong = (trajectory(GymnasiumFamilyEnv("test", {"p": torque})) for torque in (1.0, 2.0, 4.0))
    assert not np.array_equal(weak, own)
    assert not np.array_equal(own, strong)
    vector = FamilyVectorEnv([family.task({"p": 4.0})])
    vector.reset(seed=3)
    np.testing.assert_array_equal(vector.step(actions(family)[0])[0][0], strong[0, :-1])


def test_discrete_actions_become_numbers() -> None:
    two = get_family("cartpole-length")
    taken = [ActionMap(gym.make(two.base_id).action_space)(np.array([a])) for a in (-0.1, 0.0, 0.1)]
    assert taken == [0, 0, 1]
    three = declare("MountainCar-v0", attribute="gravity", train=[0.002, 0.003])
    assert three.action_size == 3
    assert ActionMap(gym.make(three.base_id).action_space)(np.array([-1.0, 0.2, 0.1])) == 1


# environments of the user's own --------------------------------------------------------------------------------------


class Drift(gym.Env[Any, Any]):
    """Adds its speed; cut short by itself at 3, not finite beyond ``limit``."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1, 2), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    wind = 0.0
    steps: int

    def __init__(self, limit: int = 100, **kwargs: Any) -> None:
        self.speed = 1.0 + kwargs.get("extra", 0.0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.place, self.steps = np.zeros((1, 2), np.float32), 0
        return self.place, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + self.speed + self.wind
        self.steps += 1
        return self.place, float(np.log(5.0 - self.steps)), False, self.steps == 3, {}


@pytest.fixture
def drift() -> str:
    gym.register("Drift-v0", entry_point=Drift)
    gym.register("DriftMade-v0", entry_point=lambda **kwargs: Drift(**kwargs))
    return "Drift-v0"


def test_truncation_by_the_environment_itself_counts(drift: str) -> None:
    envs = FamilyVectorEnv([declare(drift, attribute="speed", train=[0, 2]).task()], autoreset_mode="same_step")
    envs.reset(seed=0)
    ends = [envs.step(np.zeros((1, 1)))[3][0] for _ in range(6)]
    assert ends == [False, False, True] * 2


def test_attributes_of_the_class_arguments_without_default_and_functions(drift: str) -> None:
    family = declare(drift, attribute="wind", train=[0, 2])
    assert family.make(family.task({"p": 2})).unwrapped.wind == 2.0  # type: ignore[attr-defined]
    document = {"name": "b", "environment": "DriftMade-v0", "horizon": 9, "arguments": {"limit": 5}}
    extra = from_gymnasium({**document, "parameters": {"p": {"argument": "extra", "default": 0.0, "train": [0, 1]}}})
    assert extra.make(extra.task({"p": 0.5})).unwrapped.speed == 1.5  # type: ignore[attr-defined]
    with pytest.raises(MetaMapError, match="made by a function, not by a class"):
        from_gymnasium({**document, "name": "c", "parameters": {"p": {"attribute": "wind", "train": [0, 1]}}})
    with pytest.raises(MetaMapError, match="has no default that is a number"):
        from_gymnasium({**document, "name": "d", "parameters": {"p": {"argument": "extra", "train": [0, 1]}}})
