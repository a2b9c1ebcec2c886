"""Alignment: the same network with its units in another's order, to float precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.alignment import align
from metamap_rl.training.pipeline import training_pairs


def weights(spec: PolicySpec, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=spec.size).astype(np.float32)


def shuffled(spec: PolicySpec, phi: np.ndarray, seed: int) -> np.ndarray:
    """The same network in another order, with other signs where the activation allows it."""
    generator = np.random.default_rng(seed)
    parts = {name: part.copy() for name, part in spec.split(phi).items()}
    for layer, width in enumerate(spec.hidden):
        order = generator.permutation(width)
        signs = generator.choice([-1, 1], width) if spec.activation == "tanh" else np.ones(width)
        parts[f"layers.{layer}.weight"] = signs[:, None] * parts[f"layers.{layer}.weight"][order]
        parts[f"layers.{layer}.bias"] = signs * parts[f"layers.{layer}.bias"][order]
        parts[f"layers.{layer + 1}.weight"] = parts[f"layers.{layer + 1}.weight"][:, order] * signs
    return spec.join(parts).astype(np.float32)


def outputs(spec: PolicySpec, phi: np.ndarray) -> np.ndarray:
    inputs = np.random.default_rng(5).normal(size=(50, spec.observation_size)).astype(np.float32)
    found: np.ndarray = forward(spec, torch.from_numpy(phi), torch.from_numpy(inputs)).numpy()
    return found


specs = st.builds(
    PolicySpec,
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.integers(1, 9), max_size=3).map(tuple),
    st.sampled_from(["tanh", "relu", "elu"]),
)


@settings(max_examples=40, deadline=None)
@given(specs, st.integers(0, 1000))
def test_the_function_stays_and_the_distance_does_not_grow(spec: PolicySpec, seed: int) -> None:
    phi, reference = weights(spec, seed), weights(spec, seed + 1)
    aligned = align(spec, phi, reference)
    np.testing.assert_allclose(outputs(spec, aligned), outputs(spec, phi), rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(aligned - reference) <= np.linalg.norm(phi - reference) + 1e-4
    np.testing.assert_array_equal(align(spec, aligned, reference), aligned)


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_a_shuffled_network_comes_back(activation: str) -> None:
    spec = PolicySpec(17, 6, hidden=(64, 64), activation=activation)
    reference = weights(spec, 0)
    near = reference + 0.1 * weights(spec, 1)
    np.testing.assert_array_equal(align(spec, shuffled(spec, near, 2), reference), near)


def test_what_is_aligned_already_is_left_alone() -> None:
    spec = PolicySpec(4, 2, hidden=(8,))
    phi = weights(spec, 0)
    np.testing.assert_array_equal(align(spec, phi, phi), phi)
    with pytest.raises(MetaMapError, match="reference: expected shape"):
        align(spec, phi, phi[:-1])


def test_pairs_are_aligned_on_request(tiny_zoo: Zoo) -> None:
    plain = training_pairs(tiny_zoo, "train", BasePolicyProbe(), steps=5, repeats=1)
    aligned = training_pairs(tiny_zoo, "train", BasePolicyProbe(), steps=5, repeats=1, aligned=True)
    np.testing.assert_array_equal(aligned.phi, plain.phi)  # they started from phi_0: nothing to put in order
    np.testing.assert_array_equal(aligned.expert_actions, plain.expert_actions)
