"""Wrappers around a given environment: those that alter rewards or observations are named, and not all are trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.spaces import Box
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.monitor import Monitor

from helpers import tiny
from metamap_envs import get_family
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.adaptation.wrappers import alterations
from metamap_rl.cli import app
from metamap_rl.mapper.mapper import Mapper

pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting")  # Gymnasium's, of DtypeObservation

FAMILY = get_family(tiny.FAMILY)
Env = gym.Env[Any, Any]
Wrap = Callable[[Env], Env]


class Halved(gym.RewardWrapper[Any, Any]):
    def reward(self, reward: Any) -> float:
        return 0.5 * float(reward)


class Shifted(gym.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: Any) -> Any:
        return observation + 1


class Weak(gym.ActionWrapper[Any, Any, Any]):
    def action(self, action: Any) -> Any:
        return 0.5 * action


class Pushed(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        return self.env.step(action)


class Started(gym.Wrapper[Any, Any, Any, Any]):
    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs)


class Idle(gym.Wrapper[Any, Any, Any, Any]):
    pass


class TimedOut(wrappers.TimeLimit):
    pass


class Running(Pushed):
    """A normaliser of the user's own."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.returns = RunningMeanStd(shape=())


class OwnNormalizeReward(wrappers.NormalizeReward):
    pass


def stopped(env: Env) -> Env:
    wrapper = wrappers.NormalizeReward(env)
    wrapper.update_running_mean = False
    return wrapper


def transform(env: Env) -> Env:
    return wrappers.TransformObservation(env, lambda seen: 2 * seen, env.observation_space)


def rescale(env: Env) -> Env:
    inner = transform(env)
    size = inner.observation_space.shape
    bounded = wrappers.TransformObservation(inner, lambda seen: seen, Box(-9.0, 9.0, size, np.float64))
    return wrappers.RescaleObservation(bounded, np.float64(-1.0), np.float64(1.0))


HARMLESS: dict[str, Wrap] = {
    "the family's own": lambda env: env,
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 20),
    "its subclass": lambda env: TimedOut(env, 20),
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "Monitor": Monitor,
    "Autoreset": wrappers.Autoreset,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0)),
    "an action wrapper": Weak,
    "FlattenObservation": wrappers.FlattenObservation,
    "DtypeObservation": lambda env: wrappers.DtypeObservation(env, np.float32),
    "a wrapper without methods": Idle,
}
ALTERING: dict[str, tuple[Wrap, str]] = {
    "TransformReward": (lambda env: wrappers.TransformReward(env, lambda reward: 2 * float(reward)), "alters rewards"),
    "ClipReward": (lambda env: wrappers.ClipReward(env, -1.0, 1.0), "alters rewards"),
    "Halved": (Halved, "alters rewards"),
    "NormalizeReward": (stopped, "alters rewards"),
    "TransformObservation": (transform, "alters observations"),
    "RescaleObservation": (rescale, "alters observations"),
    "Shifted": (Shifted, "alters observations"),
    "DelayObservation": (lambda env: wrappers.DelayObservation(env, 1), "alters observations"),
    "DtypeObservation": (lambda env: wrappers.DtypeObservation(env, np.float16), "alters observations"),
    "StickyAction": (lambda env: wrappers.StickyAction(env, 0.2), "alters the time at which actions take effect"),
    "RepeatAction": (lambda env: wrappers.RepeatAction(env, 2), "alters rewards and the length of a step"),
    "MaxAndSkipObservation": (lambda env: wrappers.MaxAndSkipObservation(env, 2), "alters observations, rewards"),
    "Pushed": (Pushed, "may alter rewards and observations"),
    "Started": (Started, "may alter observations"),
}
DRIFTING: dict[str, tuple[Wrap, str]] = {
    "NormalizeReward": (wrappers.NormalizeReward, "rewards"),
    "NormalizeObservation": (wrappers.NormalizeObservation, "observations"),
    "OwnNormalizeReward": (OwnNormalizeReward, "rewards"),
    "Running": (Running, "rewards and observations"),
}


@pytest.fixture(scope="module")
def moved(tiny_mapper: Mapper) -> Mapper:
    return tiny.moved(tiny_mapper)


@pytest.fixture
def env() -> Iterator[Env]:
    made = gym.make(FAMILY.gym_id, task=FAMILY.sample("test-in", 1, 3)[0])
    yield made
    made.close()


def is_base(policy: AdaptedPolicy) -> bool:
    return bool((policy.phi == policy.base.phi).all()) and policy.adaptation.distance == 0.0


@pytest.mark.parametrize("name", HARMLESS)
def test_wrappers_that_alter_neither_rewards_nor_observations_are_not_named(name: str, env: Env, moved: Mapper) -> None:
    wrapped = HARMLESS[name](env)
    assert alterations(wrapped, tiny.FAMILY) == ()
    policy = adapt(moved, wrapped, steps=5)
    assert (policy.adaptation.notes, policy.adaptation.fallback, is_base(policy)) == ((), "", False)


@pytest.mark.parametrize("name", ALTERING)
def test_wrappers_that_alter_rewards_or_observations_are_named(name: str, env: Env, moved: Mapper) -> None:
    wrap, what = ALTERING[name]
    wrapped = wrap(env)
    assert f"the wrapper {name} {what}" in str(alterations(wrapped, tiny.FAMILY)[-1])
    about = adapt(moved, wrapped, steps=5).adaptation
    assert about.fallback == "", "D decides"
    assert f"the wrapper {name} {what}" in about.sentence()


@pytest.mark.parametrize("name", DRIFTING)
def test_with_a_scale_that_drifts_the_base_policy_is_served(name: str, env: Env, moved: Mapper) -> None:
    wrap, what = DRIFTING[name]
    policy = adapt(moved, wrap(Monitor(env)), steps=5)
    assert is_base(policy)
    said = f"the wrapper {name} changes the scale of {what} while D is collected"
    assert policy.adaptation.sentence() == f"the base policy is served: {said}; adapt to the environment without"
    unchecked = adapt(moved, wrap(env), steps=5, check=False)
    assert not is_base(unchecked)
    assert unchecked.adaptation.sentence() == f"the generated policy is served, unchecked; {said}"


def test_all_are_named_from_the_inside_out(env: Env, moved: Mapper, tmp_path: Path) -> None:
    wrapped = Monitor(Shifted(wrappers.TimeLimit(Halved(env), 30)))
    assert [one.name for one in alterations(wrapped, tiny.FAMILY)] == ["Halved", "Shifted"]
    policy = adapt(moved, wrapped, steps=5, check=False)
    assert (policy.adaptation.steps, len(policy.adaptation.notes)) == (5, 2)
    policy.save(tmp_path / "policy.safetensors")
    assert AdaptedPolicy.load(tmp_path / "policy.safetensors").adaptation == policy.adaptation
    assert is_base(adapt(moved, wrappers.NormalizeReward(wrapped), steps=5))


def test_the_command_line_names_them_too(moved: Mapper, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved.save(tmp_path / "mapper")
    name, made = "OfTestWrappers-v0", FAMILY.gym_id
    gym.register(name, lambda **kwargs: wrappers.NormalizeReward(gym.make(made)), max_episode_steps=20)
    try:
        words = ["adapt", str(tmp_path / "mapper"), "--env", name, "--steps", "5", "--episodes", "0"]
        assert app.main(words) == 0
        assert "served     the base policy is served: the wrapper NormalizeReward changes" in capsys.readouterr().out
        assert app.main([*words, "--no-check", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
    finally:
        del gym.registry[name]
    assert "NormalizeReward" in result["sentence"]
    assert (result["fallback"], len(result["notes"])) == ("", 1)
