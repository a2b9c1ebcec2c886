"""Adaptation: the generated policy acts as its exported copies do, and knows what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO

from helpers import tiny
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_agents.sb3.foreign_zip import read_sb3_actor
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError, Rollout, get_family
from metamap_rl.adaptation.measuring import measure_in_env, measure_on_task
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json

FAMILY = get_family(tiny.FAMILY)
TASK = FAMILY.sample("test-in", 1, 3)[0]


@pytest.fixture(scope="module")
def mapper(tiny_mapper: Mapper) -> Mapper:
    return tiny.moved(tiny_mapper)


@pytest.fixture(scope="module")
def rollout(mapper: Mapper) -> Rollout:
    probe = probe_from_json(mapper.probe)
    return collect(probe, [TASK], mapper.base, steps=60, seed=0, num_threads=1).rollout(0)


@pytest.fixture(scope="module")
def policy(mapper: Mapper, rollout: Rollout) -> AdaptedPolicy:
    return adapt(mapper, rollout)


def test_it_tells_how_it_came_about(mapper: Mapper, rollout: Rollout, policy: AdaptedPolicy) -> None:
    about = policy.adaptation
    assert (about.family, about.steps) == (tiny.FAMILY, 60)
    assert about.milliseconds > 0
    change = (mapper.generate(rollout) - mapper.base.phi) / mapper.weight_scale.numpy()
    assert about.distance == pytest.approx(np.sqrt((change**2).mean()))
    assert about.distance > 0.1
    assert adapt(mapper, rollout, steps=7).adaptation.steps == 7


def test_predict_is_what_plain_ppo_predicts_on_raw_observations(
    policy: AdaptedPolicy, rollout: Rollout, tmp_path: Path
) -> None:
    policy.save_sb3(tmp_path / "policy.zip")
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    seen = rollout.observations.astype(np.float64)
    ours, _ = policy.predict(seen)
    theirs, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)  # float32, summed in another order by torch
    assert np.ptp(ours, axis=0).min() > 0.01, "the actions depend on the observations"
    one, state = policy.predict(seen[0])
    assert state is None
    np.testing.assert_allclose(one, model.predict(seen[0], deterministic=True)[0], rtol=0, atol=1e-5)
    spec, _ = read_sb3_actor(tmp_path / "policy.zip")
    assert spec == policy.spec
    assert model.observation_space == policy.observation_space
    assert model.action_space == policy.action_space


def test_the_exported_model_can_be_trained_further(policy: AdaptedPolicy, tmp_path: Path) -> None:
    policy.save_sb3(tmp_path / "policy.zip")
    settings = {"n_steps": 50, "batch_size": 50, "n_epochs": 1}
    model = PPO.load(tmp_path / "policy.zip", gym.make(FAMILY.gym_id, task=TASK), device="cpu", **settings)
    assert model.learn(50).num_timesteps == 50
    many = PPO.load(tmp_path / "policy.zip", FamilyVecEnv([TASK] * 2, seed=0), device="cpu", **settings)
    assert many.learn(100).num_timesteps == 100


def test_a_saved_policy_comes_back(policy: AdaptedPolicy, rollout: Rollout, tmp_path: Path) -> None:
    policy.save(tmp_path / "policy.safetensors")
    loaded = AdaptedPolicy.load(tmp_path / "policy.safetensors")
    assert loaded.adaptation == policy.adaptation
    assert loaded.base.record == policy.base.record
    np.testing.assert_array_equal(loaded.phi, policy.phi)
    np.testing.assert_array_equal(loaded.predict(rollout.observations)[0], policy.predict(rollout.observations)[0])
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "policy.safetensors").read_bytes()


def test_an_empty_rollout_gives_the_base_policy(mapper: Mapper) -> None:
    policy = adapt(mapper, Rollout.from_rows(tiny.FAMILY, []))
    np.testing.assert_array_equal(policy.phi, mapper.base.phi)
    assert (policy.adaptation.steps, policy.adaptation.distance) == (0, 0.0)


def test_an_environment_is_probed_by_the_mapper(mapper: Mapper, tmp_path: Path) -> None:
    env = gym.make(FAMILY.gym_id, task=TASK)
    policy = adapt(mapper, env, steps=20, seed=1)
    assert policy.adaptation.steps == 20
    np.testing.assert_array_equal(adapt(mapper, env, steps=20, seed=1).phi, policy.phi)
    assert not np.array_equal(adapt(mapper, env, steps=20, seed=2).phi, policy.phi)
    assert adapt(mapper, env).adaptation.steps == 50
    assert adapt(mapper, env, steps=0).adaptation.distance == 0
    mapper.save(tmp_path / "mapper")
    np.testing.assert_array_equal(adapt(tmp_path / "mapper", env, steps=20, seed=1).phi, policy.phi)


def test_the_simulator_and_one_environment_measure_alike(policy: AdaptedPolicy) -> None:
    fast = measure_on_task(policy, TASK, 3)
    slow = measure_in_env(policy, gym.make(FAMILY.gym_id, task=TASK), 3)
    for name in ("base", "generated"):
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-3)
    assert fast["base"] != fast["generated"]
    endless = measure_in_env(policy, gym.make(FAMILY.gym_id, task=TASK, max_episode_steps=10**6), 1)
    np.testing.assert_allclose(endless["base"], slow["base"][:1])
    with pytest.raises(MetaMapError, match="at least 1, got 0"):
        measure_in_env(policy, gym.make(FAMILY.gym_id), 0)
    with pytest.raises(MetaMapError, match="expected a task of family 'reacher-goal'"):
        measure_on_task(policy, get_family("cheetah-velocity").task())


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("steps", "message"), [(61, "has no first 61"), (-1, "steps: expected at least 0, got -1")])
def test_more_steps_than_there_are(mapper: Mapper, rollout: Rollout, steps: int, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        adapt(mapper, rollout, steps=steps)


def test_foreign_rollouts_and_environments_are_refused(mapper: Mapper, tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match="trained on family 'reacher-goal', the rollout is of 'cheetah-velocity'"):
        adapt(mapper, Rollout.from_rows("cheetah-velocity", []))
    with pytest.raises(MetaMapError, match="environment's observations have shape"):
        adapt(mapper, gym.make("MetaMap/CheetahVelocity-v0"))
    wider = RescaleAction(gym.make(FAMILY.gym_id), np.float32(-2.0), np.float32(2.0))
    with pytest.raises(MetaMapError, match=r"environment's actions are Box\(-2.0, 2.0.*RescaleAction"):
        adapt(mapper, wider)
    with pytest.raises(MetaMapError, match="RescaleAction"):
        measure_in_env(adapt(mapper, gym.make(FAMILY.gym_id), steps=5), wider)
    with pytest.raises(MetaMapError, match="steps: expected at least 0, got -1"):
        adapt(mapper, gym.make(FAMILY.gym_id), steps=-1)
    with pytest.raises(MetaMapError, match="not a saved mapper"):
        adapt(tmp_path, gym.make(FAMILY.gym_id))


def test_damaged_and_foreign_policies_are_refused(policy: AdaptedPolicy, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    policy.save(path)
    whole = path.read_bytes()
    arrays, metadata = load_arrays(path)

    def refused(message: str, changed: dict[str, Any] | None = None, **texts: str) -> None:
        save_arrays(path, {**arrays, **(changed or {})}, {**metadata, **texts})
        with pytest.raises(MetaMapError, match=message):
            AdaptedPolicy.load(path)

    path.write_bytes(whole[:-5])
    with pytest.raises(MetaMapError, match="truncated"):
        AdaptedPolicy.load(path)
    refused("expected format 'metamap-policy-1', the file has 'metamap-rollout-1'", format="metamap-rollout-1")
    refused(r"phi_hat: expected \(4866,\), file has \(3,\)", {"phi_hat": np.zeros(3, np.float32)})
    refused("phi_hat holds values that are not finite", {"phi_hat": np.full(4866, np.nan, np.float32)})
    refused("unknown array 'extra'", {"extra": np.zeros(1)})
    about = json.loads(metadata["about"])
    refused("its description is damaged", about="[")
    refused("its description is damaged", about="[]")
    refused("adaptation: family: is missing", about=json.dumps({**about, "adaptation": {"steps": 3}}))
    unsure = {**about, "adaptation": {**about["adaptation"], "confidence": "high"}}
    refused("adaptation: confidence: .*got 'high'", about=json.dumps(unsure))
    refused("damaged|expected the keys", about=json.dumps({**about, "base": {}}))
    refused("damaged|expected", about=json.dumps({**about, "base": 3}))
    elsewhere = {**about, "adaptation": {**about["adaptation"], "family": "reacher-gaol"}}
    refused("did you mean 'reacher-goal'", about=json.dumps(elsewhere))
    with pytest.raises(MetaMapError, match=r"ends in \.safetensors"):
        policy.save(tmp_path / "policy.zip")
    with pytest.raises(MetaMapError, match=r"ends in \.zip"):
        policy.save_sb3(tmp_path / "policy.safetensors")


# ------------------------------------------------------------------------------------------- what may be given


@pytest.mark.usefixtures("tiny_bundle")
def test_a_bundled_mapper_goes_by_its_name(rollout: Rollout) -> None:
    policy = adapt("reacher-goal", rollout)
    assert policy.adaptation.family == "reacher-goal"
    with pytest.raises(MetaMapError, match="no such folder, and unknown bundled mapper 'reacher-gaol': did you mean"):
        adapt("reacher-gaol", rollout)


@pytest.mark.parametrize("source", ["MetaMap/ReacherGoal-v0", None, [1, 2]])
def test_what_is_no_environment_is_refused(mapper: Mapper, source: object) -> None:
    with pytest.raises(MetaMapError, match="expected a Rollout, or a Gymnasium environment or a vector"):
        adapt(mapper, source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "50"}, "steps: expected a whole number, got '50'"),
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"seed": -1}, r"seed: expected an integer in \[0, 4294967295\], got -1"),
    ],
)
def test_numbers_are_whole(mapper: Mapper, rollout: Rollout, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        adapt(mapper, rollout, **settings)
    assert adapt(mapper, rollout, steps=np.int64(3)).adaptation.steps == 3  # type: ignore[arg-type]
