"""Users' environments by module and id, and a declared family's policies in its own environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import FlattenObservation, RescaleAction
from stable_baselines3 import PPO

from helpers.policies import base_of
from helpers.user_envs import ID, Plain
from metamap_envs import FamilySpaces, MetaMapError, from_gymnasium, get_family, load_family, registry
from metamap_envs.from_gymnasium import user_modules as modules
from metamap_envs.from_gymnasium.user_modules import make_by_id
from metamap_rl.adaptation.env_spaces import EnvSpaces
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.adaptation.record import Adaptation
from metamap_rl.adaptation.wrappers import alterations
from metamap_rl.cli import main
from metamap_rl.probing.collecting import probe_env
from metamap_rl.probing.probes.planned import BasePolicyProbe

OWN = {"pendulum-torque": "Pendulum-v1", "cartpole-length": "CartPole-v1", "walker-parts": "Walker2d-v5"}
MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Needs(PendulumEnv):
    def __init__(self, g, extra=1.0):
        super().__init__(g=g)

def broken(**kwargs):
    return open("/nonexistent/robot.xml")

gym.register("{id}-v0", entry_point=Needs, max_episode_steps=5)
gym.register("{id}Broken-v0", entry_point=broken)
gym.register("{id}Nothing-v0", entry_point=lambda: 3)
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares or imports is gone after it."""
    monkeypatch.setenv(registry.VARIABLE, "")
    monkeypatch.setattr(registry, "_DECLARED", {})
    monkeypatch.setattr(modules, "_ADDED", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    ids, imported = set(gym.registry), set(sys.modules)
    yield
    for added in set(gym.registry) - ids:
        del gym.registry[added]
    for name in set(sys.modules) - imported:
        if name.startswith("users_own"):
            del sys.modules[name]


def write(folder: Path, name: str, text: str = MODULE, env: str = "UsersOwn") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text.replace("{id}", env))
    return folder


# modules and constructors -----------------------------------------------------------------------------------------


def test_a_mere_folder_of_its_name_in_the_path_does_not_hide_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "hidden_boats").mkdir(parents=True)  # no __init__.py
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "hidden_boats.py").write_text(MODULE.format(id="Hidden"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere"), *sys.path])
    monkeypatch.chdir(tmp_path / "here")
    assert make_by_id("hidden_boats:Hidden-v0", {"g": 9.0}, "the boat").unwrapped.g == 9.0  # type: ignore[attr-defined]


def test_a_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "users_own_a"))
    env = make_by_id("users_own_a:UsersOwn-v0", {"g": 7.5, "max_episode_steps": 3}, "--env x")
    assert env.unwrapped.g == 7.5  # type: ignore[attr-defined]
    assert env.spec is not None
    assert env.spec.max_episode_steps == 3


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        ("users_own_b:UsersOwn-v0", {}, r"it cannot be made: TypeError: .*missing 1 required.*'g'"),
        ("users_own_b:UsersOwn-v0", {"extr": 1}, "unknown argument of its constructor 'extr': did you mean 'extra'"),
        ("users_own_b:UsersOwnBroken-v0", {}, r"FileNotFoundError: .*robot.xml' \(users_own_b.py, line 10\)"),
        ("users_own_b:UsersOwnNothing-v0", {}, "cannot be made: "),
        ("users_own_b:Nothing-v0", {}, "Nothing"),
        ("users_own_exit:X-v0", {}, "its module 'users_own_exit' cannot be imported: SystemExit: 3"),
        ("users_own_bug:X-v0", {}, r"NameError: name 'nothing' is not defined \(users_own_bug.py, line 2\)"),
        ("users_own_syntax:X-v0", {}, "SyntaxError"),
        ("users_own_gone:X-v0", {}, "No module named 'users_own_gone' in .*set PYTHONPATH"),
        ("users_own_lacks:X-v0", {}, "No module named 'users_own_gone_too'"),
        ("not a module:X-v0", {}, "is not the name of a module"),
        ("Pendlum-v1", {}, "Pendlum"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, arguments: dict[str, Any], message: str
) -> None:
    write(tmp_path, "users_own_b")
    write(tmp_path, "users_own_exit", "import sys\nsys.exit(3)")
    write(tmp_path, "users_own_bug", "import gymnasium\nnothing")
    write(tmp_path, "users_own_syntax", "def")
    write(tmp_path, "users_own_lacks", "import users_own_gone_too")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MetaMapError, match=f"--env x: .*{message}") as caught:
        make_by_id(env, arguments, "--env x")
    assert "\n" not in str(caught.value)


def test_the_command_line_says_it_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write(tmp_path, "users_own_c"))
    adapt = ["adapt", "cheetah-velocity"]
    for words, message in (
        (["--env", "users_own_c:UsersOwn-v0"], "cannot be made: TypeError"),
        (["--env", "users_own_c:UsersOwn-v0", "--env-arg", "g=9.81", "--env-arg", "gg=1"], "did you mean 'g'"),
        (["--env", "users_own_c:UsersOwn-v0", "--env-arg", "g=9.81"], r"observations have shape (3,), expected (17,)"),
        (["--env", "Pendulum-v1", "--env-arg", "g"], "--env-arg: expected NAME=VALUE"),
        (["--env", "Pendulum-v1", "--env-arg", "g=1", "--env-arg", "g=2"], "--env-arg has 'g' twice"),
        (["--env-arg", "g=1", "--parameters", "target_velocity=1"], "--env-arg needs --env"),
    ):
        assert main([*adapt, *words]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1


FAMILY = """
name: {name}
environment: {module}:{env}-v0
arguments: {g: 9.0}
parameters:
  m: {attribute: m, train: [1, 2]}
"""


def declare_in(folder: Path, name: str, module: str, env: str) -> Path:
    write(folder, module, env=env)
    path = folder / f"{name}.yml"
    path.write_text(FAMILY.replace("{name}", name).replace("{module}", module).replace("{env}", env))
    return path


def test_the_folder_of_a_familys_file_is_searched(tmp_path: Path) -> None:
    family = load_family(declare_in(tmp_path / "a", "own-one", "users_own_d", "UsersOwnD"))
    assert gym.make(family.gym_id).unwrapped.env.unwrapped.g == 9.0  # type: ignore[attr-defined]
    with pytest.raises(
        MetaMapError, match=r"the module 'users_own_d' of .*a is in use already; give that of .*b another"
    ):
        load_family(declare_in(tmp_path / "b", "own-two", "users_own_d", "UsersOwnE"))


def test_printed_ids_can_be_made_in_a_fresh_process(tmp_path: Path) -> None:
    one = declare_in(tmp_path / "a", "own-one", "users_own_f", "UsersOwnF")
    two = tmp_path / "two.yml"
    two.write_text(
        "name: own-two\nversion: 2\nenvironment: Pendulum-v1\nparameters:\n  g: {argument: g, train: [5, 9]}\n"
    )
    ids = [get_family(name).gym_id for name in OWN] + ["MetaMap/OwnOne-v0", "MetaMap/OwnTwo-v2"]
    limits = [get_family(name).horizon for name in OWN] + [5, 200]
    code = f"""
import os, sys
os.environ["{registry.VARIABLE}"] = os.pathsep.join([{str(tmp_path / "gone.yml")!r}, {str(one)!r}, {str(two)!r}])
import gymnasium as gym
for name, limit in zip({ids}, {limits}):
    env = gym.make("metamap_envs:" + name)
    env.reset(seed=0)
    steps = 0
    while limit == 5:
        steps += 1
        if any(env.step(env.action_space.sample())[2:4]):
            break
    assert steps in (0, 5), steps
    assert gym.make("metamap_envs:" + name).spec.max_episode_steps == limit
print("made")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "", done.stderr
    assert "gone.yml" in done.stderr  # whoever asks for a family is told of the file that is missing
    done = subprocess.run(
        [sys.executable, "-c", code.replace("gone.yml", "two.yml")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "made", done.stderr


# a family in its own environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_probing_the_familys_own_environment_is_probing_the_family(name: str) -> None:
    family, base = get_family(name), base_of(get_family(name))
    ours, own = (
        probe_env(BasePolicyProbe(), gym.make(each), base, family=name, steps=30, seed=4)
        for each in (family.gym_id, OWN[name])
    )
    for key, array in ours.arrays().items():
        np.testing.assert_array_equal(own.arrays()[key], array)


def policy_in(name: str, env: gym.Env[Any, Any]) -> AdaptedPolicy:
    base = base_of(get_family(name))
    return AdaptedPolicy(base, base.phi, Adaptation(name, 0, 0.0, 0.0)).acting_in(env)


@pytest.mark.parametrize("name", ["pendulum-torque", "cartpole-length"])
def test_a_policy_acts_in_the_environment_that_it_was_adapted_to(name: str, tmp_path: Path) -> None:
    env = gym.make(OWN[name])
    policy, view = policy_in(name, env), FamilySpaces(gym.make(OWN[name]), name)
    policy.save(tmp_path / "policy.safetensors")
    loaded = AdaptedPolicy.load(tmp_path / "policy.safetensors")
    ours = AdaptedPolicy(policy.base, policy.phi, policy.adaptation)
    seen, alike = env.reset(seed=0)[0], view.reset(seed=0)[0]
    for _ in range(6):
        action, _ = policy.predict(seen)
        assert env.action_space.contains(action)
        np.testing.assert_array_equal(loaded.predict(seen)[0], action)
        np.testing.assert_array_equal(policy.predict(np.stack([seen] * 3))[0][1], action)
        seen, reward, *_ = env.step(action)
        alike, expected, *_ = view.step(ours.predict(alike)[0])
        np.testing.assert_array_equal(seen, alike)
        assert reward == expected
    policy.save_sb3(tmp_path / "policy.zip")
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    if name == "pendulum-torque":
        assert (model.observation_space, model.action_space) == (env.observation_space, env.action_space)
        np.testing.assert_allclose(model.predict(seen, deterministic=True)[0], policy.predict(seen)[0], atol=1e-5)
    else:  # a choice is no Gaussian action: the zip is in the family's terms
        np.testing.assert_allclose(model.predict(alike, deterministic=True)[0], ours.predict(alike)[0], atol=1e-5)


class Picture(Plain):
    """Observations of three axes, and choices."""

    observation_space = Box(0, 255, (2, 3, 1), np.uint8)
    action_space = Discrete(3, start=4)

    def observation(self) -> Any:
        return np.arange(6, dtype=np.uint8).reshape(2, 3, 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        gym.Env.reset(self, seed=seed)
        return self.observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return self.observation(), float(self.gain), False, False, {}


def test_pictures_and_choices(tmp_path: Path) -> None:
    gym.register(ID, entry_point=Picture, max_episode_steps=9)  # type: ignore[arg-type]  # a class makes it
    document = {"name": "users", "environment": ID, "parameters": {"gain": {"argument": "gain", "train": [1, 2]}}}
    family, env = from_gymnasium(document), gym.make(ID)
    rollout = probe_env(BasePolicyProbe(), env, base_of(family), family="users", steps=12, seed=0)
    assert rollout.observations.shape == (12, 6)
    policy = policy_in("users", env)
    seen, _ = env.reset(seed=0)
    assert env.action_space.contains(policy.predict(seen)[0])
    assert policy.predict(np.stack([seen] * 2))[0].shape == (2,)
    policy.save(tmp_path / "p.safetensors")
    assert AdaptedPolicy.load(tmp_path / "p.safetensors").predict(seen)[0] == policy.predict(seen)[0]
    flat = policy_in("users", FlattenObservation(gym.make(ID)))
    assert flat.predict(np.ravel(seen))[0] == policy.predict(seen)[0]
    with pytest.raises(MetaMapError, match=r"observation: expected shape \(2, 3, 1\) or"):
        policy.predict(np.moveaxis(seen, -1, 0))
    policy.save_sb3(tmp_path / "p.zip")
    assert PPO.load(tmp_path / "p.zip", device="cpu").action_space == FamilySpaces(env, "users").action_space


def test_an_environment_of_the_familys_spaces_needs_nothing() -> None:
    assert EnvSpaces.of(gym.make("MetaMap/PendulumTorque-v0"), "pendulum-torque") is None
    scaled = RescaleAction(gym.make("Pendulum-v1"), np.float32(-1.0), np.float32(1.0))
    assert EnvSpaces.of(scaled, "pendulum-torque") is None
    wider = RescaleAction(gym.make("Pendulum-v1"), np.float32(-3.0), np.float32(3.0))
    found = EnvSpaces.of(wider, "pendulum-torque")
    assert found is not None
    np.testing.assert_array_equal(found.taken(np.array([[0.5]], np.float32)), [[1.5]])
    assert alterations(FamilySpaces(gym.make("Pendulum-v1"), "pendulum-torque"), "pendulum-torque") == ()


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("cartpole-length", "Acrobot-v1", r"observations have shape \(6,\), expected \(4,\)"),
        ("pendulum-torque", "CartPole-v1", "observations have shape"),
        ("cartpole-length", "MountainCar-v0", r"observations have shape \(2,\)"),
        ("cheetah-velocity", "Blackjack-v1", "observations are Tuple"),
    ],
)
def test_other_environments_are_refused(name: str, env: str, message: str) -> None:
    with pytest.raises(MetaMapError, match=f"the environment's {message}"):
        FamilySpaces(gym.make(env), name)


def test_other_actions_are_refused() -> None:
    def with_actions(space: gym.Space[Any]) -> gym.Env[Any, Any]:
        env = Plain()
        env.observation_space, env.action_space = Box(-9.0, 9.0, (4,)), space
        return env

    for space in (Discrete(3), Box(-2.0, 2.0, (1,)), Box(0, 1, (1,), np.int32)):
        with pytest.raises(MetaMapError, match=r"the environment's actions are .*its own environment's Discrete\(2\)"):
            FamilySpaces(with_actions(space), "cartpole-length")
    found = EnvSpaces.of(with_actions(Discrete(2, start=7)), "cartpole-length")
    assert found is not None
    assert found.taken(np.array([[-0.5], [0.5]], np.float32)).tolist() == [7, 8]
