"""Settings of Stable-Baselines3's learners in rl-zoo's notation are read, or refused before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sb3_contrib import ARS, TQC
from stable_baselines3 import DDPG, PPO, SAC
from torch import nn, optim

from metamap_agents.sb3.rl_zoo import read_policy_kwargs, read_python
from metamap_envs import MetaMapError, get_family
from metamap_envs.yaml_text import parse_yaml
from metamap_rl.bench.sb3 import SB3Learner
from metamap_rl.bench.sb3_settings import SB3Settings
from metamap_rl.bench.worlds import CountedEnv, FamilyWorld

HALF_CHEETAH = """
defaults: &defaults
  normalize: true
  policy: 'MlpPolicy'
HalfCheetah-v4:
  <<: *defaults
  batch_size: 64
  n_steps: 512
  gamma: 0.98
  learning_rate: 2.0633e-05
  ent_coef: 4.01762e-4
  clip_range: lin_0.1
  n_epochs: !!float 2e1
  max_grad_norm: 8e-1
  policy_kwargs: "dict(
                    log_std_init=-2,
                    ortho_init=False,
                    activation_fn=nn.ReLU,
                    net_arch=dict(pi=[256, 256], vf=[256, 256])
                  )"
"""


def test_an_entry_of_rl_zoo_is_read_whole() -> None:
    read = SB3Settings.read(PPO, parse_yaml(HALF_CHEETAH, "ppo.yml")["HalfCheetah-v4"])
    assert read.falling == {"clip_range": 0.1}
    assert read.normalize == {"gamma": 0.98}
    kwargs = read.arguments["policy_kwargs"]
    assert kwargs["activation_fn"] is nn.ReLU
    assert kwargs["net_arch"] == {"pi": [256, 256], "vf": [256, 256]}
    assert (kwargs["log_std_init"], kwargs["ortho_init"]) == (-2, False)
    assert (read.arguments["n_epochs"], read.arguments["ent_coef"]) == (20, 4.01762e-4)
    assert type(read.arguments["n_epochs"]) is int


@pytest.mark.parametrize(
    ("algorithm", "settings", "expected"),
    [
        (PPO, {"learning_rate": "1e-3"}, {"learning_rate": 1e-3}),
        (PPO, {"n_steps": 1e3, "batch_size": "64"}, {"n_steps": 1000, "batch_size": 64}),
        (PPO, {"target_kl": None, "clip_range_vf": None}, {"target_kl": None, "clip_range_vf": None}),
        (PPO, {"env_wrapper": None, "frame_stack": 1, "callback": None}, {}),
        (SAC, {"tau": "1e-2", "buffer_size": 1e6}, {"tau": 0.01, "buffer_size": 1_000_000}),
        (SAC, {"train_freq": [1, "episode"]}, {"train_freq": (1, "episode")}),
        (SAC, {"train_freq": "(1, 'episode')"}, {"train_freq": (1, "episode")}),
        (SAC, {"ent_coef": "auto_0.1", "target_entropy": "auto"}, {"ent_coef": "auto_0.1", "target_entropy": "auto"}),
        (SAC, {"use_sde": True, "gradient_steps": -1}, {"use_sde": True, "gradient_steps": -1}),
        (ARS, {"policy": "LinearPolicy", "n_delta": 2}, {"policy": "LinearPolicy", "n_delta": 2}),
    ],
)
def test_values_become_those_that_the_algorithm_takes(
    algorithm: Any, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    read = SB3Settings.read(algorithm, settings)
    assert read.arguments == {"policy": "MlpPolicy", **expected}
    for key, value in expected.items():
        assert type(read.arguments[key]) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, {}),
        ("true", {}),
        (False, None),
        (None, None),
        ("dict(norm_obs=True, norm_reward=False)", {"norm_obs": True, "norm_reward": False}),
        ("{'norm_obs': True, 'clip_obs': 5}", {"norm_obs": True, "clip_obs": 5}),
        ({"norm_reward": False, "gamma": "9.9e-1"}, {"norm_reward": False, "gamma": 0.99}),
    ],
)
def test_normalize(value: Any, expected: dict[str, Any] | None) -> None:
    assert SB3Settings.read(PPO, {"normalize": value}).normalize == expected


@pytest.mark.parametrize(
    ("algorithm", "settings", "words"),
    [
        (PPO, {"learning_rat": 1}, "PPO: unknown setting 'learning_rat': did you mean 'learning_rate'"),
        (PPO, {"learning_rate": "fast"}, "learning_rate: expected a number or 'lin_<number>', got 'fast'"),
        (PPO, {"learning_rate": "lin_x"}, "learning_rate: expected"),
        (PPO, {"learning_rate": "exp_3e-4"}, "learning_rate: expected"),
        (PPO, {"learning_rate": True}, "learning_rate: expected"),
        (PPO, {"learning_rate": -1e-3}, "learning_rate: expected at least 0"),
        (PPO, {"n_steps": 1.5}, "n_steps: expected int, got 1.5"),
        (PPO, {"n_steps": [1]}, "n_steps: expected int"),
        (PPO, {"batch_size": 0}, "batch_size: expected at least 1"),
        (PPO, {"gamma": 1.5}, "gamma: expected at least 0 and at most 1"),
        (PPO, {"gamma": "lin_0.9"}, "gamma: expected a number"),
        (PPO, {"use_sde": "maybe"}, "use_sde: expected bool"),
        (PPO, {"policy": "CnnPolicy"}, "unknown policy 'CnnPolicy'"),
        (PPO, {"seed": 3}, "seed: is set by the benchmark"),
        (PPO, {"device": "cuda"}, "device: is set by the benchmark"),
        (PPO, {"n_timesteps": 1e6}, "n_timesteps: is not supported: the learner's `steps`"),
        (PPO, {"env_wrapper": "rl_zoo3.wrappers.HistoryWrapper"}, "env_wrapper: is not supported"),
        (PPO, {"frame_stack": 4}, "frame_stack: is not supported"),
        (PPO, {"noise_type": "normal", "noise_std": 0.1}, "this algorithm has no action noise"),
        (DDPG, {"noise_type": "pink"}, "unknown noise_type 'pink'"),
        (DDPG, {"noise_std": 0.1}, "goes with a noise_type"),
        (DDPG, {"noise_type": "normal", "noise_std": "x"}, "noise_std: expected a number"),
        (PPO, {"normalize": "maybe"}, "normalize: expected true, false"),
        (PPO, {"normalize": "dict(norm_obs=1)"}, "norm_obs: expected true or false"),
        (PPO, {"normalize": {"norm": True}}, "unknown argument of VecNormalize 'norm'"),
        (PPO, {"policy_kwargs": "dict(net_arch=[64"}, "policy_kwargs: expected a dict"),
        (PPO, {"policy_kwargs": "dict(net_arch=__import__('os').getcwd())"}, "policy_kwargs: expected a dict"),
        (PPO, {"policy_kwargs": "dict(net_arch=[x for x in (1, 2)])"}, "policy_kwargs: expected a dict"),
        (PPO, {"policy_kwargs": "net_arch"}, "policy_kwargs: expected a mapping"),
        (PPO, {"policy_kwargs": {"activation_fn": "rleu"}}, "unknown activation 'rleu': did you mean 'relu'"),
        (PPO, {"policy_kwargs": {"optimizer_class": "os.system"}}, "unknown optimiser"),
        (PPO, {"policy_kwargs": {"features_extractor_class": "Mine"}}, "features_extractor_class: 'Mine' is text"),
        (PPO, {"policy_kwargs": {"net_arch": ["64"]}}, "net_arch: expected sizes of layers"),
        (PPO, {"policy_kwargs": {"net_arch": "64,64"}}, "net_arch: expected sizes of layers"),
        (SAC, {"train_freq": "often"}, "train_freq: expected"),
    ],
)
def test_what_is_not_read_is_refused(algorithm: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MetaMapError) as caught:
        SB3Settings.read(algorithm, settings)
    assert words in str(caught.value)
    assert algorithm.__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["relu", "ReLU", "nn.ReLU", "th.nn.ReLU", "torch.nn.ReLU", nn.ReLU])
def test_activations_by_any_of_their_names(name: Any) -> None:
    assert read_policy_kwargs({"activation_fn": name})["activation_fn"] is nn.ReLU


def test_policy_kwargs_of_older_files() -> None:
    read = read_policy_kwargs("dict(net_arch=[dict(pi=[64], vf=[32, 32])], optimizer_class=th.optim.AdamW)")
    assert read == {"net_arch": {"pi": [64], "vf": [32, 32]}, "optimizer_class": optim.AdamW}
    assert read_python("lin_3e-4", "x") == "lin_3e-4"


COMMON: dict[str, Any] = {"n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": "lin_3e-4", "clip_range": "lin_0.2"},
        {"policy_kwargs": {"net_arch": [8], "activation_fn": "relu"}},
        {"policy_kwargs": "dict(net_arch=[8, 8], activation_fn=nn.ReLU)"},
        {"normalize": True},
        {"learning_rate": "1e-3", "n_envs": "4"},
    ],
)
def test_what_is_read_is_learnt_with(settings: dict[str, Any]) -> None:
    env = CountedEnv(FamilyWorld(get_family("reacher-goal").task()))
    learner = SB3Learner("ppo", seed=np.int64(0), **{**COMMON, **settings})  # type: ignore[arg-type]
    learner.learn(env, 128)
    assert env.steps == 128


def test_a_falling_rate_falls_over_the_steps_on_a_task() -> None:
    learner = SB3Learner("ppo", seed=0, budget=256, **{**COMMON, "learning_rate": "lin_1e-2"})
    rates = []
    for _ in range(2):
        env = CountedEnv(FamilyWorld(get_family("reacher-goal").task()))
        for _ in range(2):
            learner.learn(env, 128)
            (slot,) = learner._slots
            model = slot.model
            assert model is not None
            rates.append(model.policy.optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [5e-3, 0, 5e-3, 0], atol=1e-12)


def test_statistics_of_normalize_are_kept_from_task_to_task(tmp_path: Any) -> None:
    learner = SB3Learner("ppo", seed=0, **{**COMMON, "normalize": {"norm_reward": False}})
    counts = []
    for task in get_family("reacher-goal").sample("train", 2, 0):
        env = CountedEnv(FamilyWorld(task))
        learner.learn(env, 128)
        (slot,) = learner._slots
        counts.append(slot.normalizer.obs_rms.count)  # type: ignore[union-attr]
    assert counts[1] > counts[0] > 128
    seen = np.full((1, 8), 3.0, np.float32)
    model, normalizer = slot.model, slot.normalizer
    assert model is not None
    assert normalizer is not None
    rollout: Any = None
    actions, _ = learner.policy(env, rollout).predict(seen)
    np.testing.assert_array_equal(actions, model.predict(normalizer.normalize_obs(seen), deterministic=True)[0])
    assert not np.array_equal(actions, model.predict(seen, deterministic=True)[0])
    learner.save(tmp_path)
    (saved,) = tmp_path.iterdir()
    assert b"normalize.observations.mean" in saved.read_bytes()


def test_off_policy_learners_with_noise_and_normalisation() -> None:
    env = CountedEnv(FamilyWorld(get_family("reacher-goal").task()))
    settings = {"learning_starts": 10, "batch_size": 8, "noise_type": "normal", "noise_std": "1e-1", "normalize": True}
    learner = SB3Learner("ddpg", seed=0, budget=60, buffer_size=1e3, **settings)
    learner.learn(env, 60)
    assert env.steps == 60
    assert SB3Settings.read(TQC, {"policy_kwargs": "dict(n_critics=1)"}).arguments["policy_kwargs"] == {"n_critics": 1}


def test_episodes_go_with_one_environment() -> None:
    learner = SB3Learner("sac", seed=0, budget=1000, n_envs=2, train_freq=[1, "episode"])
    with pytest.raises(MetaMapError, match="train_freq counts episodes, which goes with n_envs = 1"):
        learner.check(CountedEnv(FamilyWorld(get_family("reacher-goal").task())))
