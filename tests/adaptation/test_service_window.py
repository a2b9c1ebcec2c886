"""The adapter in service: its window, when it maps, and which policy it serves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.service import OBSERVATIONS, base_action, served, service_check, service_mapper, stream
from helpers.synthetic import FEATURES, SMALL, SPEC
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_rl import Adapter
from metamap_rl.adaptation.service import AdapterConfig
from metamap_rl.encoders import ENCODERS
from metamap_rl.encoders.pooling import PoolingEncoder
from metamap_rl.mapper.mapper import Mapper

QUICK = AdapterConfig(longest_window=30)
_SHARED = service_mapper()


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


def test_before_any_evidence_the_base_policy_acts(mapper: Mapper) -> None:
    adapter = Adapter(mapper, AdapterConfig(least_transitions=2))
    observation = np.ones(OBSERVATIONS, dtype=np.float32)
    adapter.reset(observation)
    assert np.array_equal(adapter.act(), base_action(observation))
    assert (adapter.belief.served, adapter.belief.window, adapter.belief.confidence) == ("base", 0, None)
    adapter.observe(1.0, observation)
    assert adapter.belief.served == "base"
    assert "too few" in adapter.belief.reason
    adapter.observe(1.0, observation)
    assert Adapter(mapper).belief.served == "base"
    usual = Adapter(mapper)
    served(usual, stream([1.0]))
    assert (usual.belief.served, usual.belief.mapped) == ("generated", 1), "from the first transition on"


def failing_mapper() -> Mapper:
    """A mapper that expects rewards of 3 and 2 of generated and base policy."""
    mapper = service_mapper()
    assert mapper.check is not None
    mapper.check.returns[:, -1] = [150.0, 100.0]
    return mapper


def test_a_policy_that_fails_is_mapped_anew_from_the_latest_transitions() -> None:
    mapper, rewards = failing_mapper(), [1.5] * 60
    adapter, plain, patient = (
        Adapter(mapper, AdapterConfig(**settings)) for settings in ({}, {"rescue": 0}, {"patience": 50})
    )
    for one in (adapter, plain):
        served(one, stream(rewards))
    assert plain.belief.mapped > 40
    assert 10 <= adapter.belief.mapped <= 40 < plain.belief.mapped, "some were given up"
    assert (adapter.belief.window, adapter.belief.changes) == (60, 0), "the window is kept"
    assert adapter.belief.rescues > plain.belief.rescues == 0
    served(adapter, stream([2.5] * 40, seed=1))
    assert adapter.belief.mapped > 10, "it grows again"
    served(patient, stream(rewards[:49]))
    assert patient.belief.mapped > 40
    short = Adapter(mapper, AdapterConfig(longest_window=15))
    served(short, stream(rewards))
    assert short.belief.rescues > 0, "a window that is shorter than the patience is judged by all of it"


def test_a_policy_that_fails_acts_with_noise_that_is_the_same_in_every_run(tmp_path: Path) -> None:
    mapper, steps, low = failing_mapper(), list(stream([1.5] * 60)), {"action_low": (-0.1, -0.2)}
    first, again, quiet, limited = (
        Adapter(mapper, AdapterConfig(**settings)) for settings in ({}, {}, {"excitation": 0.0}, low)
    )
    actions = served(first, steps)
    assert np.array_equal(actions, served(again, steps))
    without = served(quiet, steps)
    assert np.array_equal(actions[:20], without[:20])
    assert np.abs(actions[20:] - without[20:]).max() > 0.1
    assert (served(limited, steps) >= np.float32([-0.1, -0.2])).all()
    first.save(tmp_path / "state.safetensors")
    loaded = Adapter.load(tmp_path / "state.safetensors", mapper)
    assert np.array_equal(served(loaded, steps[:15]), served(first, steps[:15]))
    first.hold = loaded.hold = True
    held = served(first, steps[:5])
    policy = first._served
    expected = [np.clip(policy(observation), -1, 1) for observation, _, _ in steps[:5]]
    np.testing.assert_allclose(held, expected, atol=1e-6)


def test_a_change_is_found_and_the_policy_is_mapped_from_what_came_after(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    served(adapter, stream([-1.0] * 50))
    assert adapter.belief.served == "generated"
    assert (adapter.belief.changes, adapter.belief.window, adapter.belief.age) == (0, 50, 50)
    before = adapter._served.phi
    served(adapter, stream([1.0] * 12, seed=1))
    assert adapter.belief.changes == 1
    assert 10 <= adapter.belief.window <= 12
    assert adapter.belief.served == "generated"
    assert not np.array_equal(adapter._served.phi, before)
    fresh = Adapter(mapper)
    served(fresh, list(stream([1.0] * 12, seed=1)))
    near, far = (np.linalg.norm(adapter._served.phi - one) for one in (fresh._served.phi, before))
    assert near < 0.1 * far


def test_a_known_change_begins_a_window(mapper: Mapper) -> None:
    adapter = Adapter(mapper, QUICK)
    served(adapter, stream([0.5] * 20))
    adapter.task_changed()
    assert (adapter.belief.window, adapter.belief.age, adapter.belief.changes) == (0, 0, 1)
    served(adapter, stream([0.6] * 4, seed=1))
    assert (adapter.belief.window, adapter.belief.mapped, adapter.belief.served) == (4, 4, "generated")


def test_windows_encoded_together_are_each_by_itself() -> None:
    encoder = service_mapper(config=dataclasses.replace(SMALL, encoder="pooling", context_size=8)).encoder
    assert isinstance(encoder, PoolingEncoder)
    rows = torch.randn(30, FEATURES, generator=torch.Generator().manual_seed(0))
    bounds = [(0, 30), (0, 1), (12, 17), (29, 30)]
    with torch.no_grad():
        expected = torch.cat([encoder(rows[None, start:end]) for start, end in bounds])
        torch.testing.assert_close(encoder.of_windows(rows, bounds), expected, rtol=1e-4, atol=1e-4)


def test_replaced_networks_are_new_ones_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    phis = generator.normal(size=(3, SPEC.size)).astype(np.float32)
    networks = RowwiseNetworks(SPEC, phis)
    phis[1] = generator.normal(size=SPEC.size)
    networks.replace(1, phis[1])
    observations = generator.normal(size=(3, 2, OBSERVATIONS))
    assert np.array_equal(networks(observations), RowwiseNetworks(SPEC, phis)(observations))


def test_without_a_change_the_window_grows_to_its_limit_and_mapping_is_rare(mapper: Mapper) -> None:
    adapter = Adapter(mapper, QUICK)
    served(adapter, stream([0.5] * 60))
    assert (adapter.belief.changes, adapter.belief.window, adapter.belief.age) == (0, 30, 30)
    assert adapter.belief.swaps < 20


def test_what_nothing_explains_is_left_to_the_base_policy(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    served(adapter, stream([0.5] * 10))
    assert adapter.belief.served == "generated"
    wild = np.random.default_rng(0).choice([-40.0, 40.0], size=30)
    served(adapter, stream(wild, seed=1))
    assert adapter.belief.served == "base"
    assert adapter.belief.reason
    served(adapter, stream([0.5] * 30, seed=2))
    assert adapter.belief.served == "generated"


@pytest.mark.parametrize("encoder", ENCODERS.names())
def test_every_encoder_serves(encoder: str) -> None:
    adapter = Adapter(service_mapper(config=dataclasses.replace(SMALL, encoder=encoder, context_size=8)))
    assert np.isfinite(served(adapter, stream([0.5] * 25))).all()
    assert adapter.belief.window >= 1


def test_without_a_self_check_a_window_slides() -> None:
    adapter = Adapter(service_mapper(check=False))
    served(adapter, stream([0.5] * 30))
    belief = adapter.belief
    assert (belief.served, belief.window, belief.confidence) == ("generated", 20, None)
    assert "unchecked" in belief.reason
    short = Adapter(service_mapper(), AdapterConfig(fixed_window=7, check=False))
    served(short, stream([0.5] * 30))
    assert (short.belief.window, short.belief.served) == (7, "generated")


@pytest.mark.parametrize(
    "config", [AdapterConfig(fixed_window=10), AdapterConfig(fixed_window=40), AdapterConfig(longest_window=20)]
)
def test_a_full_window_is_mapped_anew_as_it_slides(config: AdapterConfig) -> None:
    adapter = Adapter(service_mapper(), config.changed(check=False))
    swaps = []
    for count in (60, 60):
        served(adapter, stream([0.5] * count))
        swaps.append(adapter.belief.swaps)
    assert swaps[1] - swaps[0] >= 60 // 5 - 1


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.5, 1.0, 40.0, -40.0]), max_size=4), st.sampled_from([0, 7]))
def test_a_review_leaves_the_record_of_the_last_mapping(levels: list[float], fixed: int) -> None:
    adapter = Adapter(_SHARED, AdapterConfig(longest_window=30, fixed_window=fixed, review=3))
    for seed, level in enumerate(levels):
        for step in stream([level] * 6, seed):
            before, served_before = adapter._verdict, adapter._served
            served(adapter, [step])
            mapping, review = adapter._verdict.mapping, adapter._verdict.review
            count = adapter._window.count
            if mapping.count == count:
                assert mapping.begin == adapter._window.begin
                assert mapping.length == adapter._window.kept <= adapter._window.length
                assert review.count == count, "a mapping is reviewed at once"
            else:
                assert mapping is before.mapping
                assert bool(review.fallback) == bool(before.review.fallback)
                assert adapter._served is served_before
            assert count - review.count < 3


def test_a_check_that_never_allows_is_heeded_unless_told_otherwise() -> None:
    mapper = service_mapper()
    mapper.check = service_check(least_steps=None)
    adapter = Adapter(mapper)
    served(adapter, stream([0.5] * 30))
    assert (adapter.belief.served, adapter.belief.swaps) == ("base", 0)
    for config in (AdapterConfig(least_transitions=4), AdapterConfig(check=False)):
        adapter = Adapter(mapper, config)
        served(adapter, stream([0.5] * 30))
        assert adapter.belief.served == "generated"
