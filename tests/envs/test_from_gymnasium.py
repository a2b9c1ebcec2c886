"""Families declared in YAML: each parameter of each example, parity with Gymnasium, and what is refused."""

from __future__ import annotations

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
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from test_family_physics import assert_equal_models, explicit_bodies

from helpers import tiny
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import save_arrays
from metamap_envs import (
    Family,
    FamilyEnv,
    FamilyVectorEnv,
    MetaMapError,
    Rollout,
    Task,
    declared_families,
    from_gymnasium,
    get_family,
    list_families,
    load_family,
    registry,
)
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.from_gymnasium import building
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.from_gymnasium.declaration import read_file
from metamap_envs.from_gymnasium.fields import FIELDS
from metamap_rl.cli import main
from metamap_rl.data.rollout_files import load_rollout

FOLDER = Path(registry.__file__).parent / "from_gymnasium" / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yml"))
PARAMETERS = [(name, parameter) for name in EXAMPLES for parameter in read_file(FOLDER / f"{name}.yml").parameters]
STEPS = 25
SWING = """
name: test-swing
environment: Pendulum-v1
parameters:
  gravity: {argument: g, train: [5, 15]}
"""


pytestmark = pytest.mark.usefixtures("forgets_declared_families")


def declare(environment: str = "Pendulum-v1", **entry: object) -> Family:
    """A family with one parameter, p."""
    return from_gymnasium({"name": "test", "environment": environment, "parameters": {"p": entry}, "horizon": 50})


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


# the rest of the project takes it as any other ---------------------------------------------------------------------


def test_training_and_rollouts_take_it() -> None:
    recipe = load_recipe("cartpole-length", "base", **tiny.SETTINGS)
    base = train_base("cartpole-length", recipe, seed=0)
    assert base.spec.observation_size == 4
    Rollout("cartpole-length", *(np.zeros(shape) for shape in ((1, 4), (1, 1), (1,), (1, 4))), *[np.zeros(1, bool)] * 2)


def test_the_command_line_takes_the_path_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    assert main(["families", "show", str(path), "--sample", "2"]) == 0
    shown = capsys.readouterr().out
    assert "test-swing" in shown
    assert "[5, 15]" in shown
    assert main(["families", "show", "test-swng"]) == 2
    assert "did you mean 'test-swing'" in capsys.readouterr().err


def test_processes_started_later_find_a_loaded_file(tmp_path: Path) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    family = load_family(path)
    assert family is load_family(path) is get_family("test-swing") is pickle.loads(pickle.dumps(family))  # noqa: S301
    assert os.environ[registry.VARIABLE] == str(path)
    code = "from metamap_envs import get_family; print(get_family('test-swing').task({'gravity': 6}).id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == family.task({"gravity": 6}).id


@pytest.mark.slow
def test_a_zoo_by_workers_a_mapper_and_its_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "swing.yml"
    path.write_text(SWING)
    settings = tiny.SETTINGS
    counts = TaskCounts(train=3, validation=2, test_in=2, test_out=0)
    zoo = fill_zoo(
        tmp_path / "zoo",
        load_family(path).name,
        counts,
        seed=0,
        workers=2,
        overrides=RecipeOverrides(settings, settings),
    )
    assert zoo.family is get_family("test-swing")
    tiny.make_mapper(zoo).save(tmp_path / "mapper")
    assert main(["adapt", str(tmp_path / "mapper"), "--parameters", "gravity=7", "--episodes", "1"]) == 0
    folders = [str(tmp_path / "mapper"), "--zoo", str(tmp_path / "zoo")]
    assert main(["mapper", "evaluate", *folders, "--episodes", "1", "--steps", "5", "--no-controls"]) == 0
    assert "base policy" in capsys.readouterr().out


def test_the_registry_of_the_package_stays_as_it_is() -> None:
    declare(argument="g", train=[5, 15])
    assert set(declared_families()) == {"test", *EXAMPLES}
    assert "test" not in list_families()
    assert Task.from_json(get_family("test").task().to_json()) == get_family("test").task()


def test_nothing_heavy_is_imported_before_a_family_is_declared() -> None:
    code = "import sys, metamap_envs; print({'yaml', 'pydantic', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_reading_the_half_cheetah_prints_nothing_and_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    family = declare("gymnasium:HalfCheetah-v5", body="torso", field="mass", how="scale", train=[0.5, 1.5])
    np.testing.assert_allclose(family.model(family.task()).body_mass.sum(), 14.0)
    assert (family.base_id, family.frame_skip, family.embodiment) == ("HalfCheetah-v5", 5, "halfcheetah-v5")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


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


# what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not YAML"),
        ("[]", "expected a mapping"),
        (
            SWING.replace("environment", "enviroment"),
            "unknown key 'enviroment': did you mean 'environment'",
        ),
        (
            SWING.replace("train", "trian"),
            "unknown key 'parameters.gravity.trian': did you mean 'parameters.gravity.train'",
        ),
        (SWING.replace("test-swing", "Test Swing"), "name: string should match"),
        (SWING.replace("Pendulum-v1", "Pendulm-v1"), "unknown Gymnasium environment 'Pendulm-v1': did you mean 'Pend"),
        (SWING.replace("argument: g", "argument: gg"), "unknown argument of the environment's constructor 'gg'"),
        (SWING.replace("argument: g", "attribute: max_sped"), "did you mean 'max_speed'"),
        (SWING.replace("argument: g", "argument: g, attribute: l"), "got argument and attribute"),
        (SWING.replace("argument: g,", ""), "needs one of body, joint.*got none of them"),
        (SWING.replace("argument: g", "body: pole"), "the target 'body' needs a field"),
        (SWING.replace("argument: g", "argument: g, field: mass"), "'argument' has no field of its own"),
        (SWING.replace("argument: g", "argument: g, index: 1"), "index belongs to MuJoCo's fields"),
        (SWING.replace("argument: g", "option: gravity"), "needs a MuJoCo model, which this environment has not"),
        (SWING.replace("[5, 15]", "[15, 5]"), r"expected an interval \[low, high\], got \[15.0, 5.0\]"),
        (SWING.replace("[5, 15]", "[5, 15], low: 6"), r"interval \[5.0, 15.0\] leaves its bounds \[6.0, 15.0\]"),
        (SWING.replace("[5, 15]", "much"), "parameters.gravity.train: .*got 'much'"),
        (SWING + "  again: {argument: g, how: scale, train: [1, 2]}", "'gravity' and 'again' write the same thing"),
        (SWING.replace("argument: g", "argument: g, how: scale") + "arguments: {g: 0}", "changes nothing, as it is 0"),
        (SWING.replace("[5, 15]", "[true, 15]"), "parameters.gravity.train.*expected a number, got True"),
        (SWING.replace("[5, 15]", "[5, 15], default: true"), "parameters.gravity.default: expected a number, got True"),
        (SWING + "version: true", "version: expected a number, got True"),
        (SWING + "horizon: true", "horizon: expected a number, got True"),
        (SWING.replace("gravity:", "'gra vity':"), "parameters: expected names without spaces and '='.*got 'gra vity'"),
        (SWING.replace("gravity:", "a=b:"), "parameters: expected names without spaces and '='.*got 'a=b'"),
        (SWING.replace("gravity:", "'':"), "parameters: expected names without spaces and '='.*got ''"),
        (SWING + "arguments: {h: 1}", "unknown argument of the constructor 'h'"),
        (SWING.replace("test-swing", "cheetah-velocity"), "is part of the package"),
        (SWING.replace("Pendulum-v1", "'not a module:Pendulum-v1'"), "is not the name of a module"),
        (SWING.replace("Pendulum-v1", "nowhere_at_all:Pendulum-v1"), "No module named 'nowhere_at_all'"),
        (
            SWING.replace("Pendulum-v1", "Blackjack-v1").replace(
                "argument: g, train: [5, 15]", "argument: sab, choices: [0, 1]"
            )
            + "horizon: 9",
            "type Box, got Tuple",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "family.yml"
    path.write_text(text)
    with pytest.raises(MetaMapError, match=expected) as caught:
        load_family(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"body": "torzo", "field": "mass"}, "unknown body 'torzo': did you mean 'torso'"),
        ({"actuator": "leg", "field": "gear", "index": 0}, "unknown actuator 'leg': did you mean 'leg_joint'"),
        ({"geom": "foot_geom", "field": "size"}, "unknown field 'size' of the target 'geom'"),
        ({"option": "gravty"}, "did you mean 'gravity'"),
        ({"option": "gravity"}, "'gravity' has 3 elements; declare which with index"),
        ({"option": "gravity", "index": 3}, "index: expected 0 to 2"),
        ({"body": "*", "field": "mass"}, "declare how: scale"),
        ({"body": "world", "field": "mass"}, "has no mass"),
        ({"joint": "rootx", "field": "damping", "how": "scale"}, "changes nothing, as it is 0"),
    ],
)
def test_what_is_wrong_about_mujoco_is_reported(entry: dict[str, object], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected):
        declare("Walker2d-v5", **entry, train=[0.5, 2.0])


@pytest.mark.parametrize(
    ("entry", "train", "expected"),
    [
        ({"body": "torso", "field": "mass"}, [-1, 2], "'mass': expected values above 0, got -1"),
        (
            {"body": "torso", "field": "mass", "how": "scale"},
            [0, 2],
            "a factor on 'mass': expected values above 0",
        ),
        ({"joint": "leg_joint", "field": "damping"}, [-0.5, 2], "'damping': expected values of 0 or more"),
        ({"option": "timestep"}, [0, 0.01], "'timestep': expected values above 0"),
    ],
)
def test_values_that_no_model_has_are_refused(entry: dict[str, object], train: list[float], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected):
        declare("Walker2d-v5", **entry, train=train)
    declare("Walker2d-v5", joint="leg_joint", field="damping", train=[0, 2])


def test_an_environment_without_what_it_needs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(**_: object) -> None:
        raise gym.error.DependencyNotInstalled("Box2D is not installed,\nrun pip")

    monkeypatch.setattr(building, "creator_of", lambda spec: lacking())
    with pytest.raises(MetaMapError, match="environment 'Pendulum-v1': Box2D is not installed, run pip"):
        declare(argument="g", train=[5, 15])


def test_names_and_embodiments_must_not_clash() -> None:
    declare(argument="g", train=[5, 15])
    with pytest.raises(MetaMapError, match="declared already, with other contents"):
        declare(argument="g", train=[5, 16])
    document = {"name": "other", "environment": "CartPole-v1", "embodiment": "pendulum-v1"}
    with pytest.raises(MetaMapError, match="declare another embodiment"):
        from_gymnasium({**document, "parameters": {"p": {"attribute": "length", "train": [0, 1]}}})
    with pytest.raises(MetaMapError, match="no such file"):
        load_family("missing.yml")
    document = {"environment": "Pendulum-v1", "parameters": {"p": {"argument": "g", "train": [1, 2]}}}
    from_gymnasium({"name": "test-2", **document})
    with pytest.raises(MetaMapError, match="Gymnasium id MetaMap/Test2-v0 is that of 'test-2'"):
        from_gymnasium({"name": "test2", **document})


def test_no_stored_name_makes_a_file_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a family may import a module: only who names the file means that."""
    (tmp_path / "swing.yml").write_text(SWING.replace("Pendulum-v1", "this:Pendulum-v1"))
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path)
    arrays = {name: np.zeros(shape) for name, shape in (("observations", (1, 3)), ("actions", (1, 1)))}
    arrays |= {name: np.zeros(1) for name in ("rewards", "terminated", "truncated")}
    about = {"format": "metamap-rollout-1", "about": '{"family": "swing.yml", "task": null}'}
    save_arrays(tmp_path / "d.safetensors", arrays | {"next_observations": np.zeros((1, 3))}, about)
    for read in (
        lambda: get_family("swing.yml"),
        lambda: load_rollout(tmp_path / "d.safetensors"),
        lambda: Task.from_json({"family": "swing.yml", "parameters": {}, "split": "train"}),
        lambda: Zoo.create(tmp_path / "zoo", "swing.yml", 0),
    ):
        with pytest.raises(MetaMapError, match="expected a name, not a file"):
            read()
    assert "this" not in sys.modules
    with pytest.raises(MetaMapError, match="cannot stand in METAMAP_FAMILIES"):
        load_family("a:b/swing.yml")


def test_its_environments_have_the_render_modes_of_gymnasiums() -> None:
    env = gym.make(get_family("pendulum-torque").gym_id, render_mode="rgb_array")  # without a warning
    env.close()
    with pytest.raises(MetaMapError, match=r"unknown render mode 'rgb' of Pendulum-v1: did you mean 'rgb_array'"):
        GymnasiumFamilyEnv("pendulum-torque", render_mode="rgb")


def test_what_needs_physics_alone_is_refused_in_words() -> None:
    with pytest.raises(MetaMapError, match="has no MuJoCo model: it is Pendulum-v1"):
        FamilyEnv("pendulum-torque")
    with pytest.raises(MetaMapError, match=r"runs Walker2d-v5 itself.*MetaMap/WalkerParts-v0"):
        FamilyEnv("walker-parts").reset()
    with pytest.raises(MetaMapError, match="is not declared in YAML"):
        GymnasiumFamilyEnv("reacher-goal")
    env = GymnasiumFamilyEnv("pendulum-torque")
    with pytest.raises(MetaMapError, match=r"call reset\(\) before step"):
        env.step(np.zeros(1))
    env.reset(seed=0)
    with pytest.raises(MetaMapError, match=r"expected shape \(1,\), got \(2,\)"):
        env.step(np.zeros(2))
    with pytest.raises(MetaMapError, match="not finite"):
        env.step(np.array([np.nan]))
    with pytest.raises(MetaMapError, match="without a render_mode"):
        env.render()
