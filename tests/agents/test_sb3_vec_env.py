"""The fast simulator in SB3's clothes: SB3's contract, and parity with SB3's own DummyVecEnv."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError, get_family, list_families

SEED = 11


def actions_of(envs: FamilyVecEnv, steps: int) -> NDArray[np.float32]:
    shape = (steps, envs.num_envs, *envs.action_space.shape)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("name", list_families())
def test_it_does_what_dummy_vec_env_does_on_the_single_environments(name: str) -> None:
    family = get_family(name)
    tasks = family.sample("train", 3, 4)
    fast = FamilyVecEnv(tasks, SEED, num_threads=1)
    slow = DummyVecEnv([lambda task=task: Monitor(gym.make(family.gym_id, task=task)) for task in tasks])
    slow.seed(SEED)
    assert fast.observation_space == slow.observation_space
    np.testing.assert_array_equal(fast.reset(), slow.reset())
    ended = 0
    for actions in actions_of(fast, family.horizon + 3):
        seen, rewards, dones, infos = fast.step(actions)
        other_seen, other_rewards, other_dones, other_infos = slow.step(actions)
        np.testing.assert_array_equal(seen, other_seen)
        np.testing.assert_array_equal(rewards, other_rewards)
        np.testing.assert_array_equal(dones, other_dones)
        for done, info, other in zip(dones, infos, other_infos, strict=True):
            assert ("terminal_observation" in info) == done
            if not done:
                continue
            ended += 1
            np.testing.assert_array_equal(info["terminal_observation"], other["terminal_observation"])
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            assert info["episode"]["l"] == other["episode"]["l"] <= family.horizon
            assert info["TimeLimit.truncated"] == (info["episode"]["l"] == family.horizon)
            assert info["episode"]["r"] == pytest.approx(other["episode"]["r"], abs=1e-4)
            assert info["task"] == other["task"]
    assert ended >= len(tasks)


def test_an_ended_episode_is_reset_in_the_same_step() -> None:
    family = get_family("reacher-goal")
    envs = FamilyVecEnv(family.sample("train", 2, 0), SEED, num_threads=1)
    before = envs.reset()
    first = before.copy()
    for step, actions in enumerate(actions_of(envs, 2 * family.horizon), start=1):
        after, _, dones, infos = envs.step(actions)
        assert dones.all() == dones.any() == (step % family.horizon == 0)
        for index, info in enumerate(infos):
            if not dones[index]:
                assert info == {}
                continue
            # The transition that is stored ends in the terminal observation; the next starts in a new episode.
            assert not np.allclose(info["terminal_observation"], after[index], atol=1e-3)
            assert np.abs(after[index] - first[index]).max() < 0.5, "near the family's initial state"
            assert info["TimeLimit.truncated"]
            assert info["episode"]["t"] >= 0
        before = after
    assert before.dtype == np.float64


def test_observations_are_those_of_the_normalizer() -> None:
    family = get_family("reacher-goal")
    tasks = family.sample("train", 2, 0)
    size = family.observation_size
    normalizer = ObservationNormalizer(np.linspace(-1, 1, size), np.linspace(0.5, 2, size))
    raw, seen = FamilyVecEnv(tasks, SEED, num_threads=1), FamilyVecEnv(tasks, SEED, normalizer, num_threads=1)
    np.testing.assert_allclose(seen.reset(), normalizer.apply(raw.reset()), atol=1e-6)
    for actions in actions_of(raw, family.horizon):
        plain, normal = raw.step(actions), seen.step(actions)
        np.testing.assert_allclose(normal[0], normalizer.apply(plain[0]), atol=1e-5)
    last, other = plain[3][0]["terminal_observation"], normal[3][0]["terminal_observation"]
    np.testing.assert_allclose(other, normalizer.apply(last), atol=1e-5)


def test_seeds_are_used_once() -> None:
    envs = FamilyVecEnv(get_family("reacher-goal").sample("train", 2, 0), SEED, num_threads=1)
    first, second = envs.reset(), envs.reset()
    assert not np.array_equal(first, second)
    envs.seed(SEED)
    np.testing.assert_array_equal(envs.reset(), first)


def test_options_change_the_tasks() -> None:
    family = get_family("reacher-goal")
    tasks = family.sample("train", 2, 0)
    other = family.sample("test-in", 1, 0)[0]
    envs = FamilyVecEnv(tasks, SEED, num_threads=1)
    envs.set_options([{"task": other}, {}])
    envs.reset()
    assert envs.get_attr("task") == [other, tasks[1]]
    assert envs.get_attr("task", indices=1) == [tasks[1]]
    envs.reset()
    assert envs.get_attr("task") == [other, tasks[1]], "until they are changed again"
    envs.set_options({"taks": other})
    with pytest.raises(MetaMapError, match="unknown reset option 'taks': did you mean 'task'"):
        envs.reset()


def test_what_rows_of_one_simulator_cannot_do_is_said() -> None:
    envs = FamilyVecEnv(get_family("reacher-goal").sample("train", 2, 0), SEED, num_threads=1)
    with pytest.raises(AttributeError, match="cannot set 'x'"):
        envs.set_attr("x", 1)
    with pytest.raises(AttributeError, match="cannot call 'x'"):
        envs.env_method("x")
    assert envs.env_is_wrapped(Monitor) == [False, False]
    envs.close()
