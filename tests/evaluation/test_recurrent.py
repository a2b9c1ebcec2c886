"""RL^2: trials keep their task and their memory, and what is measured depends on what was explored."""

from __future__ import annotations

import numpy as np
import pytest

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_envs.registry import get_family
from metamap_rl.evaluation.baselines.recurrent import (
    RecurrentConfig,
    RecurrentPolicy,
    TrialVecEnv,
    Units,
    train_recurrent,
)

FAMILY = "reacher-goal"
SIZES = get_family(FAMILY)
UNITS = Units(ObservationNormalizer.identity(SIZES.observation_size), reward_mean=-0.5, reward_std=2.0)
CONFIG = RecurrentConfig(
    n_timesteps=240,
    n_envs=4,
    n_steps=30,
    batch_size=60,
    n_epochs=1,
    lstm_hidden_size=8,
    net_arch=(8,),
    lengths=(0, 5, 60),
)


def trials(lengths: tuple[int, ...], seed: int = 0) -> TrialVecEnv:
    return TrialVecEnv(FAMILY, UNITS, 3, lengths, seed, num_threads=1)


def test_a_trial_is_an_exploration_and_an_episode_on_one_task() -> None:
    envs = trials((5,))
    seen = envs.reset()
    tasks = envs.tasks
    last, begun = SIZES.observation_size + SIZES.action_size, SIZES.observation_size + SIZES.action_size + 1
    assert (seen[:, begun] == 1).all()
    assert (seen[:, SIZES.observation_size : begun] == 0).all(), "there was no action yet"
    actions = np.full((3, SIZES.action_size), 0.5)
    flags = []
    for step in range(5 + SIZES.horizon):
        seen, rewards, dones, infos = envs.step(actions)
        flags.append(seen[0, begun])
        if step < 5 + SIZES.horizon - 1:
            assert envs.tasks == tasks
            assert not dones.any()
            np.testing.assert_allclose(seen[:, last], (rewards + 0.5) / 2.0, rtol=1e-5)
            np.testing.assert_allclose(seen[:, SIZES.observation_size : last], 0.5)
    assert dones.all()
    assert envs.tasks != tasks
    assert flags.index(1.0) == 4, "after the exploration an episode begins"
    assert sum(flags) == 2, "that one, and the first of the next trial"
    assert infos[0]["terminal_observation"].shape == seen[0].shape
    assert infos[0]["episode"]["l"] == 5 + SIZES.horizon
    envs.close()


def test_the_reported_return_is_that_of_the_episode_alone() -> None:
    envs = trials((5,))
    envs.reset()
    total = np.zeros(3)
    for step in range(5 + SIZES.horizon):
        _, rewards, _, infos = envs.step(np.zeros((3, SIZES.action_size)))
        total += rewards if step >= 5 else 0
    assert [info["episode"]["r"] for info in infos] == pytest.approx(total, rel=1e-5)
    envs.close()


def trained(seed: int) -> RecurrentPolicy:
    rewards = np.array([-1.0, 0.0])
    return train_recurrent(FAMILY, UNITS.normalizer, rewards, CONFIG, seed=seed, num_threads=1)


def test_training_and_measuring_are_reproducible_and_use_what_was_explored() -> None:
    tasks = SIZES.sample("test-in", 2, 0)
    first, second = (trained(3).measure(tasks, (0, 5, 60), episodes=2, seed=1, num_threads=1) for _ in range(2))
    assert set(first) == {0, 5, 60}
    for length, returns in first.items():
        np.testing.assert_array_equal(returns, second[length])
    assert not np.array_equal(first[0], first[5]), "another memory is another policy"
    assert not np.array_equal(first[5], first[60])


def test_steps_are_counted() -> None:
    assert trained(0).steps == CONFIG.n_timesteps
