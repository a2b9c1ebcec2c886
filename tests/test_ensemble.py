"""Ensembles: that a mean is a mean, that members which agree do not disagree, and that a folder comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic
from metamap_agents.functional import forward
from metamap_agents.policy_spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.ensemble import COMBINATIONS, Ensemble, mean_of_actions, mean_of_weights
from metamap_rl.mapper import Mapper
from synthetic import FAMILY, SPEC, features_of, moved_mapper, pairs, rollout_of

ROLLOUT = rollout_of(pairs(3, 0), 0)


def members(*seeds: int) -> list[Mapper]:
    """Mappers around one base policy, each with parameters of its own."""
    return [moved_mapper(seed) for seed in seeds]


specs = st.builds(
    PolicySpec,
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(st.integers(1, 5), max_size=3).map(tuple),
    st.sampled_from(["tanh", "relu"]),
)


@settings(max_examples=30, deadline=None)
@given(specs, st.integers(1, 4), st.integers(0, 1000))
def test_the_wide_network_gives_the_mean_of_the_outputs(spec: PolicySpec, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    phis = torch.randn(2, count, spec.size, generator=generator)
    inputs = torch.randn(7, spec.observation_size, generator=generator)
    wide, phi = mean_of_actions(spec, phis)
    assert phi.shape == (2, wide.size)
    torch.testing.assert_close(
        forward(wide, phi, inputs), forward(spec, phis, inputs).mean(dim=1), rtol=1e-4, atol=1e-4
    )
    same, mean = mean_of_weights(spec, phis)
    assert same == spec
    torch.testing.assert_close(mean, phis.mean(dim=1))


@pytest.mark.parametrize("combine", COMBINATIONS.names())
def test_a_policy_of_equal_members_is_that_of_each(combine: str) -> None:
    ensemble = Ensemble(members(0, 0, 0))
    observations = np.random.default_rng(0).normal(size=(20, SPEC.observation_size))
    phi = ensemble.members[0].generate(ROLLOUT)
    alone = Ensemble(members(0)).policy(ROLLOUT, combine).predict(observations)[0]
    np.testing.assert_allclose(ensemble.policy(ROLLOUT, combine).predict(observations)[0], alone, atol=1e-5)
    np.testing.assert_allclose(ensemble.generate(ROLLOUT), phi, atol=1e-6)
    assert ensemble.rollout_disagreement(ROLLOUT) == pytest.approx(0, abs=1e-6)


def test_disagreement_is_the_spread_of_actions() -> None:
    ensemble = Ensemble(members(0, 1, 2))
    observations = torch.from_numpy(ROLLOUT.observations)[None]
    phis = ensemble.phis(features_of(pairs(3, 0))[:1])
    inputs = torch.from_numpy(ensemble.base.normalizer.apply(ROLLOUT.observations).astype(np.float32))
    actions = forward(SPEC, phis[0], inputs).clamp(-1, 1).numpy()
    wanted = np.sqrt(actions.var(axis=0).mean())
    assert float(ensemble.disagreement(phis, observations)[0]) == pytest.approx(wanted, rel=1e-5)
    assert ensemble.rollout_disagreement(ROLLOUT) == pytest.approx(wanted, rel=1e-5)
    assert wanted > 0.01
    assert ensemble.rollout_disagreement(ROLLOUT.head(0)) == 0.0


def test_one_policy_for_all_is_phi_0_where_nothing_was_seen() -> None:
    ensemble = Ensemble(members(0, 1))
    np.testing.assert_allclose(ensemble.generate(ROLLOUT.head(0)), ensemble.base.phi, atol=1e-6)


def test_a_folder_of_folders_comes_back(tmp_path: Path) -> None:
    ensemble = Ensemble(members(0, 1, 2))
    ensemble.save(tmp_path / "e")
    loaded = Ensemble.load(tmp_path / "e")
    assert len(loaded) == 3
    np.testing.assert_array_equal(loaded.generate(ROLLOUT), ensemble.generate(ROLLOUT))
    alone = Mapper.load(tmp_path / "e" / "member-1")
    np.testing.assert_array_equal(alone.generate(ROLLOUT), ensemble.members[1].generate(ROLLOUT))
    with pytest.raises(MetaMapError, match="already exists"):
        ensemble.save(tmp_path / "e")
    (tmp_path / "e" / "member-2" / "mapper.json").unlink()
    with pytest.raises(MetaMapError, match="member-2: not a saved mapper"):
        Ensemble.load(tmp_path / "e")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a saved ensemble"),
        ("[]", "format version None"),
        ('{"format_version": 2}', "format version 2, this metamap_rl reads 1"),
        ('{"format_version": 1, "members": 0}', "members: expected a whole number >= 1, got 0"),
    ],
)
def test_another_folder_is_no_ensemble(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ensemble.json").write_text(text)
    with pytest.raises(MetaMapError, match=message):
        Ensemble.load(tmp_path)


def test_mappers_that_do_not_belong_together_are_refused() -> None:
    first, second = members(0, 1)
    second.probe = {"kind": "other"}
    with pytest.raises(MetaMapError, match="member 1 has another probe than member 0"):
        Ensemble([first, second])
    other = moved_mapper(1)
    other.base = replace(synthetic.base_policy(), phi=synthetic.base_policy().phi + 1)
    with pytest.raises(MetaMapError, match="member 1 has another base policy"):
        Ensemble([first, other])
    with pytest.raises(MetaMapError, match="at least one mapper"):
        Ensemble([])
    with pytest.raises(MetaMapError, match="unknown combination 'action': did you mean 'actions'"):
        Ensemble([first]).policy(ROLLOUT, "action")


def test_parameters_are_read_with_a_spread(tiny_mapper: Mapper) -> None:
    ensemble = Ensemble([tiny_mapper, tiny_mapper])
    read = ensemble.read_parameters(ROLLOUT)
    assert read.keys() == set(dict(get_family(FAMILY).task().parameters))
    assert all(spread == pytest.approx(0, abs=1e-9) for _, spread in read.values())
    assert Ensemble(members(0, 1)).read_parameters(ROLLOUT) == {}
