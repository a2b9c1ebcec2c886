"""Training with SB3, in a few steps: what comes out fits together, and depends on the seed alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import tiny
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.training import train_base, train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_envs import MetaMapError, Task, get_family, list_families

FROZEN = {"learning_rate": 1e-30}  # float32 weights do not move by so little


def recipe(stage: str = "expert", family: str = tiny.FAMILY, **overrides: object) -> Recipe:
    return load_recipe(family, stage, **{**tiny.SETTINGS, **overrides})  # type: ignore[arg-type]


def task() -> Task:
    return get_family(tiny.FAMILY).sample("train", 1, 0)[0]


def same(first: BasePolicy, second: BasePolicy) -> bool:
    one, two = first.to_arrays(), second.to_arrays()
    return set(one) == set(two) and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", list_families())
def test_a_base_policy_of_every_family(name: str) -> None:
    family = get_family(name)
    progress: list[tuple[int, int]] = []
    base = train_base(
        name,
        recipe("base", name),
        seed=0,
        num_threads=1,
        on_progress=lambda done, total, metrics: progress.append((done, total)),
    )
    assert (base.spec.observation_size, base.spec.action_size) == (family.observation_size, family.action_size)
    assert base.critic
    assert base.record["family"] == name
    assert base.record["steps"] == 400
    assert progress == [(200, 400), (400, 400)]
    assert BasePolicy.from_arrays(base.to_arrays(), base.describe()).record == base.record


def test_experts_may_start_from_random_weights_of_their_own() -> None:
    base = train_base(tiny.FAMILY, recipe("base"), seed=0, num_threads=1)
    still = {"start": "random", **FROZEN}
    found = [train_expert(task(), base, recipe(**still), seed=seed).phi for seed in (3, 3, 4)]
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2]), "each seed has weights of its own"
    assert np.linalg.norm(found[0] - base.phi) > 0.5 * np.linalg.norm(base.phi), "which are not phi_0"


def test_the_seed_decides_everything() -> None:
    made = [train_base(tiny.FAMILY, recipe("base"), seed=seed, num_threads=1) for seed in (0, 0, 1)]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])
    assert same(made[0], train_base(tiny.FAMILY, recipe("base"), seed=0, num_threads=2)), "not the threads"
    experts = [train_expert(task(), made[0], recipe(), seed=seed) for seed in (3, 3, 4)]
    assert np.array_equal(experts[0].phi, experts[1].phi)
    assert np.array_equal(experts[0].returns, experts[1].returns)
    assert not np.array_equal(experts[0].phi, experts[2].phi)
    assert np.array_equal(experts[0].base_returns, experts[2].base_returns), "evaluation has seeds of its own"


def test_global_generators_and_threads_are_left_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    train_base(tiny.FAMILY, recipe("base"), seed=0, num_threads=1)
    found = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert found == (random.random(), np.random.random(), torch.rand(1).item())  # noqa: NPY002
    assert torch.get_num_threads() == 1


def test_an_expert_starts_from_the_base_policy_or_a_given_start(tiny_zoo: Zoo) -> None:
    base = tiny_zoo.base
    still = train_expert(task(), base, recipe(**FROZEN), seed=0)
    np.testing.assert_array_equal(still.phi, base.phi)
    np.testing.assert_array_equal(still.returns, still.base_returns)
    start = base.phi + np.float32(0.01)
    np.testing.assert_array_equal(train_expert(task(), base, recipe(**FROZEN), seed=0, start=start).phi, start)


def test_an_expert_moves_and_stays_near(tiny_zoo: Zoo) -> None:
    expert = train_expert(task(), tiny_zoo.base, recipe(), seed=0)
    distance = np.linalg.norm(expert.phi - tiny_zoo.base.phi)
    assert 0 < distance < 0.2 * np.linalg.norm(tiny_zoo.base.phi)
    assert expert.phi.dtype == np.float32
    assert expert.returns.shape == expert.base_returns.shape == (10,)
    assert expert.record["recipe"]["n_timesteps"] == 400
    assert isinstance(expert, Expert)


def test_a_base_policy_without_critic_is_enough(tiny_zoo: Zoo) -> None:
    bare = replace(tiny_zoo.base, critic={})
    assert np.isfinite(train_expert(task(), bare, recipe(), seed=0).phi).all()


def test_what_does_not_fit_is_refused(tiny_zoo: Zoo) -> None:
    other = {"net_arch": {"pi": [8], "vf": [8]}}
    with pytest.raises(MetaMapError, match="expected the network"):
        train_expert(task(), tiny_zoo.base, recipe(policy_kwargs=other), seed=0)
    with pytest.raises(MetaMapError, match="phi: expected shape"):
        train_expert(task(), tiny_zoo.base, recipe(), seed=0, start=np.zeros(3, np.float32))
    with pytest.raises(MetaMapError, match="unknown family"):
        train_base("reacher", recipe("base"), seed=0)


def test_divergence_is_reported_in_a_sentence(tiny_zoo: Zoo) -> None:
    wild = recipe(learning_rate=1e30)
    with pytest.raises(MetaMapError, match=r"training on reacher-goal-\w+ \(goal_radius=.*\) diverged"):
        train_expert(task(), tiny_zoo.base, wild, seed=0)


def test_whoever_watches_the_policy_sees_its_start_and_may_end_the_training() -> None:
    base = train_base(tiny.FAMILY, recipe("base"), seed=0, num_threads=1)
    whole = train_expert(task(), base, recipe(), seed=3)
    seen: list[tuple[int, np.ndarray]] = []

    def watch(steps: int, phi: np.ndarray) -> bool:
        seen.append((steps, phi))
        return True

    watched = train_expert(task(), base, recipe(), seed=3, on_policy=watch)
    assert np.array_equal(watched.phi, whole.phi), "watching changes nothing"
    assert [steps for steps, _ in seen] == [0, 200]
    assert np.array_equal(seen[0][1], base.phi)
    assert not np.array_equal(seen[1][1], base.phi)
    stopped = train_expert(task(), base, recipe(), seed=3, on_policy=lambda steps, phi: steps < 200)
    assert np.array_equal(stopped.phi, seen[1][1])
    assert stopped.record["steps"] < whole.record["steps"]
