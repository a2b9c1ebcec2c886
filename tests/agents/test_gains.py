"""Gain search: what scaling actions does, that a search finds the signs, and zoos whose experts come from a parent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import tiny
from metamap_agents.experts.building import build_experts
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.gains import GainSearch, search_gains, with_gains
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import Episodes
from metamap_agents.policy.functional import forward
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_envs import MetaMapError

SPEC = PolicySpec(3, 2, (4,), "tanh")
PHI = np.random.default_rng(0).normal(size=SPEC.size).astype(np.float32)
SEARCH: dict[str, Any] = {"population": 4, "elite": 2, "iterations": 2, "restarts": 1, "final_episodes": 1}
COUNTS = TaskCounts(train=2, validation=1, test_in=1)


@settings(max_examples=25, deadline=None)
@given(gains=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2))
def test_gains_scale_the_actions(gains: list[float]) -> None:
    inputs = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    plain = forward(SPEC, torch.from_numpy(PHI)[None], inputs)
    scaled = forward(SPEC, torch.from_numpy(with_gains(SPEC, PHI, gains))[None], inputs)
    torch.testing.assert_close(scaled, plain * torch.tensor(gains), atol=1e-5, rtol=1e-5)


def test_many_gains_at_once_are_each_by_itself() -> None:
    gains = np.random.default_rng(1).normal(size=(5, 2))
    np.testing.assert_array_equal(with_gains(SPEC, PHI, gains), np.stack([with_gains(SPEC, PHI, row) for row in gains]))
    np.testing.assert_array_equal(with_gains(SPEC, PHI, [1.0, 1.0]), PHI)


def test_a_search_finds_signs_and_strengths(tiny_zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a score whose best gains are known; it has a second peak, lower and broader, at one wrong sign."""
    base, best = tiny_zoo.base, np.array([-0.8, 1.3])
    bias = base.spec.split(base.phi)[f"layers.{len(base.spec.hidden)}.bias"]

    def evaluate(tasks: Any, policies: Policies, *, episodes: int, **_: Any) -> Episodes:
        gains = policies.spec.split(policies.phi)[f"layers.{len(policies.spec.hidden)}.bias"] / bias
        distances = [((gains - peak) ** 2).sum(axis=-1) for peak in (best, best * [-1, 1])]
        scores = np.maximum(np.exp(-distances[0]), 0.7 * np.exp(-distances[1] / 4))
        return Episodes(np.tile(scores[:, None], episodes), np.full((len(tasks), episodes), 50))

    monkeypatch.setattr("metamap_agents.experts.gains.evaluate_policies", evaluate)
    settings = GainSearch(population=16, elite=4, iterations=12, restarts=4)
    task = tiny_zoo.tasks("train", 1)[0]
    needed: list[float] = []
    for seed in range(8):
        found = search_gains(task, base.phi, base, settings, seed=seed, enough=0.9)
        np.testing.assert_allclose(found.gains, best, atol=0.2)
        assert np.array_equal(found.phi, with_gains(base.spec, base.phi, found.gains))
        searches = (found.environment_steps - 50 * 4) / (50 * (12 * 16 + 2 * 4))
        assert searches in (1, 2, 3, 4), "the parent once; then no more searches than needed"
        needed.append(searches)
    assert len(set(needed)) > 1, "a search that ended on the lower peak was followed by another"
    never = search_gains(task, base.phi, base, settings, seed=0)
    assert never.environment_steps == 50 * 4 + 4 * 50 * (12 * 16 + 2 * 4)


def test_the_seed_decides(tiny_zoo: Zoo) -> None:
    task, base = tiny_zoo.tasks("train", 1)[0], tiny_zoo.base
    first, same, threads, other = (
        search_gains(task, base.phi, base, GainSearch(**SEARCH), seed=seed, num_threads=count)
        for seed, count in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert np.array_equal(first.gains, same.gains)
    assert np.array_equal(first.gains, threads.gains)
    assert not np.array_equal(first.gains, other.gains)
    assert (np.abs(first.gains) <= GainSearch().largest).all()


def searched(root: Path, **overrides: Any) -> Zoo:
    expert = {**tiny.SETTINGS, "start": "parent", "gain_search": SEARCH, **overrides}
    return fill_zoo(
        root,
        tiny.FAMILY,
        COUNTS,
        seed=3,
        workers=1,
        overrides=RecipeOverrides({**tiny.SETTINGS, "told": []}, expert),
    )


def test_a_zoo_of_searched_experts(tmp_path: Path) -> None:
    zoo = searched(tmp_path / "zoo")
    parent = zoo.universal
    assert parent.parameters == ()
    assert len(zoo.experts()) == 4, "the parent is none of them"
    for expert in zoo.experts():
        expected = with_gains(zoo.base.spec, parent.phi, expert.record["gains"])
        assert np.array_equal(expert.phi, expected)
        assert expert.record["steps"] == expert.record["search_steps"] > 0
    again = searched(tmp_path / "zoo")
    assert np.array_equal(again.universal.phi, parent.phi)
    with pytest.raises(MetaMapError, match=r"parent_timesteps.* 0.* 400"):
        searched(tmp_path / "zoo", parent_timesteps=400)


def test_ppo_goes_on_from_what_was_found(tmp_path: Path) -> None:
    zoo = searched(tmp_path / "zoo", parent_timesteps=400)
    expert = zoo.experts("train")[0]
    assert expert.record["steps"] == 400 + expert.record["search_steps"]
    start = with_gains(zoo.base.spec, zoo.universal.phi, expert.record["gains"])
    assert (expert.phi != start).any()
    still = {"start": "parent", "gain_search": SEARCH, "parent_timesteps": 400, "learning_rate": 1e-30}
    recipe = load_recipe(tiny.FAMILY, "expert", **{**tiny.SETTINGS, **still})
    seed = zoo.expert_seed(expert.task)
    frozen = train_expert(expert.task, zoo.base, recipe, seed=seed, start=zoo.universal)
    np.testing.assert_allclose(frozen.phi, start, rtol=1e-5, atol=1e-6)


def test_a_zoo_without_a_parent_is_reported(tiny_zoo: Zoo) -> None:
    overrides = {**tiny.SETTINGS, "start": "parent", "gain_search": SEARCH}
    with pytest.raises(MetaMapError, match="has no universal policy"):
        build_experts(tiny_zoo, tiny_zoo.tasks("train", 9), overrides=overrides, workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elite": 9}, "elite = 9 must be at most population = 4"),
        ({"popluation": 9}, r"unknown key 'gain_search.popluation': did you mean"),
        ({"restarts": 0}, "gain_search.restarts"),
    ],
)
def test_a_bad_setting_is_reported(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        load_recipe(tiny.FAMILY, "expert", start="parent", gain_search={**SEARCH, **change})
