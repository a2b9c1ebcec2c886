"""Copies of environments go on to the bit, in this process and in others, or say that they cannot; nothing hangs."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv
from numpy.typing import NDArray

from helpers.user_envs import Plain
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import FamilyVectorEnv, MetaMapError, from_gymnasium, get_family
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.env import FamilyEnv

pytestmark = [
    pytest.mark.usefixtures("forgets_declared_families"),
    pytest.mark.filterwarnings("ignore:.*calling 'step..' even though this environment has already returned"),
]

NAMES = ("cheetah-velocity", "cheetah-length", "cartpole-length", "pendulum-torque", "walker-parts")
"""Of the package: with and without a model of the task's own; declared: with attributes, arguments, MuJoCo's fields."""
ID = "Copied-v0"


def pickled(env: Any) -> Any:
    return pickle.loads(pickle.dumps(env))  # noqa: S301


def cloudpickled(env: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(env))  # noqa: S301


COPIES = (copy.deepcopy, pickled, cloudpickled)
Copy = Callable[[Any], Any]


def going_on(env: gym.Env[Any, Any], size: int) -> NDArray[Any]:
    """What the next steps give, across a reset without a seed and one with a seed."""
    generator, rows = np.random.default_rng(1), []
    for step in range(24):
        if step in (8, 16):
            observation, _ = env.reset(seed=None if step == 8 else 4)
            rows.append([*observation, 0.0, 0.0, 0.0])
        observation, reward, terminated, truncated, _ = env.step(generator.uniform(-1, 1, size).astype(np.float32))
        rows.append([*observation, float(reward), terminated, truncated])
    return np.array(rows)


def in_mid_episode(name: str) -> gym.Env[Any, Any]:
    family = get_family(name)
    env = gym.make(family.gym_id, task=family.sample("test-out", 1, 0)[0], max_episode_steps=7)
    env.reset(seed=2)
    for _ in range(4):
        env.step(np.full(family.action_size, 0.3, np.float32))
    return env


@pytest.mark.parametrize("copied", [*COPIES, copy.copy])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_goes_on_in_mid_episode_and_leaves_the_original_alone(name: str, copied: Copy) -> None:
    size, env = get_family(name).action_size, in_mid_episode(name)
    other = copied(env.unwrapped if copied is copy.copy else env)
    assert other.unwrapped.task == env.unwrapped.task  # type: ignore[attr-defined]
    found = going_on(other, size)
    width = slice(None, -1) if copied is copy.copy else slice(None)  # without the time limit, that is a wrapper's
    np.testing.assert_array_equal(found[:, width], going_on(env, size)[:, width])


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_has_the_physics_of_its_task(copied: Copy) -> None:
    family = get_family("walker-parts")
    env = gym.make(family.gym_id, parameters={"torso_mass": 1.5, "gravity": -5.0})
    env.reset(seed=0)
    other = copied(env)
    model = other.unwrapped.env.unwrapped.model
    assert (model.body("torso").mass[0], model.opt.gravity[2]) == (pytest.approx(5.4978, abs=1e-4), -5.0)
    other.reset(seed=3)
    assert sum(other.step(np.zeros(6, np.float32))[1] for _ in range(60)) == pytest.approx(59.67873849161444)
    renderer = other.unwrapped.env.unwrapped.mujoco_renderer
    assert renderer.model is model
    assert renderer.data is other.unwrapped.env.unwrapped.data


@pytest.mark.parametrize("copied", [*COPIES, copy.copy])
@pytest.mark.parametrize("name", ["cheetah-length", "dmc-walker-speed", "hopper-dynamics", "cartpole-length"])
def test_a_copy_of_many_environments_goes_on(name: str, copied: Copy) -> None:
    family = get_family(name)
    envs = FamilyVectorEnv(family.sample("train", 3, 0), num_threads=2, autoreset_mode="same_step", horizon=9)
    for one in (envs, FamilyVecEnv(family.sample("train", 3, 0), seed=0, num_threads=2)):
        steps = np.random.default_rng(0).uniform(-1, 1, (20, 3, family.action_size)).astype(np.float32)
        one.reset()
        for row in steps[:5]:
            one.step(row)
        other = copied(one)
        for row in steps[5:]:
            (*expected, _), (*found, _) = one.step(row), other.step(row)
            for left, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(left, right)


def test_a_copy_of_a_rendering_environment_opens_a_renderer_of_its_own() -> None:
    env = FamilyEnv("reacher-goal", render_mode="rgb_array")
    env.reset(seed=0)
    env._renderer = object()  # type: ignore[assignment]
    assert copy.deepcopy(env)._renderer is None
    env._renderer = None


# users' environments ----------------------------------------------------------------------------------------------


def declared(base: Any) -> GymnasiumFamilyEnv:
    gym.register(ID, entry_point=base, max_episode_steps=50)
    parameters = {"gain": {"argument": "gain", "train": [0.5, 2.0]}}
    from_gymnasium({"name": "copied", "environment": ID, "parameters": parameters})
    env = GymnasiumFamilyEnv("copied", {"gain": 1.5})
    env.reset(seed=0)
    env.step(np.ones(1))
    return env


class RefersToItself(Plain):
    """Holds a bound method and a lambda of its own, which a naive copy leaves at the original."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.observe = self.observation
        self.pay = lambda: float(self.x[0])

    def step(self, action: Any) -> Any:
        _, _, *rest = super().step(action)
        return self.observe().copy(), self.pay(), *rest


class MakesItselfAnew(Plain, EzPickle):
    """As environments around simulators written in other languages do."""

    def __init__(self, gain: float = 1.0) -> None:
        Plain.__init__(self, gain)
        EzPickle.__init__(self, gain)  # type: ignore[no-untyped-call]


class HasAHandle(Plain):
    """Its simulator cannot be copied."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.simulator = (each for each in [gain])


class CopiesItself(Plain):
    """In its own way, that a task knows nothing of."""

    def __getstate__(self) -> dict[str, Any]:
        return {"gain": 1.0}


@pytest.mark.parametrize("copied", COPIES)
def test_attributes_that_refer_to_the_environment_refer_to_the_copy(copied: Copy) -> None:
    env = declared(RefersToItself)
    np.testing.assert_array_equal(going_on(copied(env), 1), going_on(env, 1))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (MakesItselfAnew, "MakesItselfAnew copies itself by making a new one"),
        (HasAHandle, "its attribute 'simulator' of type generator cannot be copied"),
        (CopiesItself, "CopiesItself copies itself in its own way"),
    ],
)
def test_what_cannot_be_copied_in_mid_episode_says_so_and_has_the_task(
    base: type[Plain], reason: str, copied: Copy
) -> None:
    env = declared(base)
    other = copied(env)
    with pytest.raises(MetaMapError, match=rf"task gain=1.5: a copy cannot go on in mid-episode, as {reason}; call"):
        other.step(np.zeros(1))
    assert other.env.unwrapped.gain == 1.5
    other.reset(seed=1)
    env.reset(seed=1)
    np.testing.assert_array_equal(other.step(np.ones(1))[0], env.step(np.ones(1))[0])


# other processes --------------------------------------------------------------------------------------------------


def forked(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a child that is forked here; it fails instead of hanging."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    try:
        assert receiver.poll(120), "the child hangs"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("name", ["cheetah-length", "dmc-walker-speed", "pendulum-torque"])
def test_many_environments_go_on_in_a_forked_process(name: str) -> None:
    family = get_family(name)
    envs = FamilyVectorEnv(family.sample("train", 4, 0), num_threads=2)
    envs.reset(seed=0)
    steps = np.random.default_rng(0).uniform(-1, 1, (9, 4, family.action_size))
    for row in steps[:3]:
        envs.step(row)

    def rest() -> Any:
        return [envs.step(row)[:2] for row in steps[3:]], envs.reset(options={"task": family.task()})[0]

    found, expected = forked(rest), rest()
    for left, right in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("first", ["pass", "envs = None", "import copy; copy.deepcopy(envs).step(np.zeros((4, 6)))"])
def test_a_forked_process_ends_though_it_has_no_threads(first: str) -> None:
    """The simulator's end waits for its threads; those of the parent are not in the child."""
    code = f"""
import os, sys, numpy as np
from metamap_envs import FamilyVectorEnv, get_family
envs = FamilyVectorEnv([get_family("cheetah-velocity").task()] * 4, num_threads=2)
envs.reset(seed=0)
child = os.fork()
if child == 0:
    {first}
    sys.exit(3)
print(child, flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        out, _ = parent.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        raise
    assert out.strip() == "3"


def test_a_process_that_does_not_know_the_family_takes_its_environment(tmp_path: Path) -> None:
    document = {"name": "copied", "environment": "Pendulum-v1", "parameters": {"g": {"argument": "g", "train": [5, 9]}}}
    family = from_gymnasium(document)
    env = gym.make(family.gym_id, parameters={"g": 7.0})
    env.reset(seed=0)
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    code = f"""
import pickle, sys, numpy as np
env = pickle.load(open({str(tmp_path / "env.pickle")!r}, "rb"))
print(env.unwrapped.task.id, repr(float(env.step(np.ones(1, np.float32))[1])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [env.unwrapped.task.id, repr(float(env.step(np.ones(1, np.float32))[1]))]  # type: ignore[attr-defined]


def test_a_process_finds_the_module_beside_the_listed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swings_of_a_user.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import PendulumEnv\n"
        "class Swing(PendulumEnv):\n    pass\n"
        "gymnasium.register('SwingsOfAUser-v0', entry_point=Swing, max_episode_steps=20)\n"
    )
    (tmp_path / "swings.yml").write_text(
        "name: swings-of-a-user\nenvironment: swings_of_a_user:SwingsOfAUser-v0\n"
        "parameters: {g: {argument: g, train: [5, 9]}}\n"
    )
    code = """
import pickle, sys
from metamap_envs import load_family
import gymnasium as gym
if sys.argv[1] == "write":
    env = gym.make(load_family("swings.yml").gym_id, parameters={"g": 7.0})
    env.reset(seed=0)
    open("env.pickle", "wb").write(pickle.dumps(env))
else:
    print(pickle.load(open(sys.argv[2], "rb")).unwrapped.task["g"])
"""
    monkeypatch.setenv("METAMAP_FAMILIES", "")
    subprocess.run([sys.executable, "-c", code, "write"], cwd=tmp_path, check=True)
    monkeypatch.setenv("METAMAP_FAMILIES", str(tmp_path / "swings.yml"))
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-c", code, "read", str(tmp_path / "env.pickle")]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "7.0"


@pytest.mark.parametrize("name", ["cheetah-length", "cartpole-length"])
def test_gymnasiums_processes_take_the_environments(name: str) -> None:
    family = get_family(name)
    task = family.sample("train", 1, 0)[0]
    make = partial(gym.make, f"metamap_envs:{family.gym_id}", task=task)
    many, one = AsyncVectorEnv([make] * 2, context="fork"), make()
    try:
        np.testing.assert_array_equal(many.reset(seed=[3, 4])[0][0], one.reset(seed=3)[0])
        action = np.full(family.action_size, 0.3, np.float32)
        np.testing.assert_array_equal(many.step(np.stack([action] * 2))[0][0], one.step(action)[0])
    finally:
        many.close(timeout=60)
