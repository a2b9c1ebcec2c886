"""Cloning of a controller: what comes out flies better than what goes in, and depends on the seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.training import train_base, train_universal
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.initial import random_actor
from metamap_envs import MetaMapError, get_family

HOVER = "quadrotor-hover"
CLONING = {"rounds": 2, "tasks": 12, "kept": 1.0, "steps": 100, "last_steps": 100, "batch_size": 128}
SETTINGS: dict[str, Any] = {
    **tiny.SETTINGS,
    "start": "controller",
    "changes": None,
    "cloning": CLONING,
    "critic_timesteps": 400,
}


def recipe(stage: Any, **overrides: Any) -> Recipe:
    return load_recipe(HOVER, stage, **{**SETTINGS, **overrides})


@pytest.fixture(scope="module")
def base() -> BasePolicy:
    return train_base(HOVER, recipe("base"), seed=0, num_threads=1)


def test_a_clone_is_better_than_random_weights(base: BasePolicy) -> None:
    tasks = get_family(HOVER).sample("train", 12, 1)
    returns = [
        evaluate_policies(tasks, base.policies(phi), episodes=2, num_threads=1).returns.mean()
        for phi in (random_actor(base.spec, 0), base.phi)
    ]
    assert returns[1] > 1.3 * returns[0]


def test_the_seed_decides_everything(base: BasePolicy) -> None:
    again, other = (train_base(HOVER, recipe("base"), seed=seed, num_threads=2) for seed in (0, 1))
    np.testing.assert_array_equal(again.phi, base.phi)
    np.testing.assert_array_equal(again.normalizer.mean, base.normalizer.mean)
    assert base.record["clone"] == again.record["clone"] != other.record["clone"]


def test_ppo_trains_the_critic_alone_at_first(base: BasePolicy) -> None:
    longer = train_base(HOVER, recipe("base", n_timesteps=800), seed=0, num_threads=1)
    assert not np.array_equal(longer.phi, base.phi), "later the actor, too"
    more = train_base(HOVER, recipe("base", n_timesteps=800, critic_timesteps=800), seed=0, num_threads=1)
    np.testing.assert_array_equal(more.phi, base.phi)
    assert any(not np.array_equal(array, base.critic[name]) for name, array in more.critic.items())


def test_a_universal_policy_has_the_normaliser_of_the_base_policy(base: BasePolicy) -> None:
    universal = train_universal(HOVER, base, recipe("parent", told="all"), seed=0, num_threads=1)
    assert universal.record["clone"]["steps"] == 2 * 12 * 500
    task, other = get_family(HOVER).sample("train", 2, 0)
    assert not np.allclose(universal.expert_for(task), universal.expert_for(other))


def test_what_cannot_be_cloned() -> None:
    none = load_recipe(tiny.FAMILY, "base", **{**tiny.SETTINGS, "start": "controller"})
    with pytest.raises(MetaMapError, match=tiny.FAMILY):
        train_base(tiny.FAMILY, none, seed=0, num_threads=1)
    with pytest.raises(MetaMapError, match="controller"):
        load_recipe(HOVER, "expert", start="controller")
