from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.policies import SPECS, network
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


@settings(max_examples=60, deadline=None)
@given(
    SPECS,
    st.integers(0, 4),
    st.integers(0, 5),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_forward_is_a_loop_over_networks(
    spec: PolicySpec, batch: int, states: int, dtype: torch.dtype, shared: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(batch, spec.size, generator=generator, dtype=dtype) / 2
    lead = () if shared else (batch,)
    observations = torch.randn(*lead, states, spec.observation_size, generator=generator, dtype=dtype)
    actions = forward(spec, phi, observations)
    assert actions.shape == (batch, states, spec.action_size)
    assert actions.dtype == dtype
    reference = network(spec).to(dtype)
    for index in range(batch):
        torch.nn.utils.vector_to_parameters(phi[index], reference.parameters())
        own = observations if shared else observations[index]
        expected = reference(own)
        atol = TOLERANCE[dtype] * (1 + float(expected.detach().abs().max()) if expected.numel() else 1)
        torch.testing.assert_close(actions[index], expected, rtol=0, atol=atol)
        torch.testing.assert_close(forward(spec, phi[index], own), expected, rtol=0, atol=atol)


def test_leading_axes_broadcast() -> None:
    spec = PolicySpec(3, 2, (4,))
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(5, 1, spec.size, generator=generator)
    observations = torch.randn(7, 6, 3, generator=generator)
    actions = forward(spec, phi, observations)
    assert actions.shape == (5, 7, 6, 2)
    torch.testing.assert_close(actions[4, 3], forward(spec, phi[4, 0], observations[3]))
    assert forward(spec, phi[0, 0], observations).shape == (7, 6, 2)
    every_other = forward(spec, phi[::2, 0], observations[:3])
    torch.testing.assert_close(every_other[2], actions[4, 2])


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_gradients_reach_weights_and_observations(activation: str) -> None:
    spec = PolicySpec(3, 2, (4, 3), activation)
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(2, spec.size, generator=generator, dtype=torch.float64, requires_grad=True)
    observations = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, o: forward(spec, p, o), (phi, observations))


def test_the_weights_decide_the_type() -> None:
    spec = PolicySpec(3, 2)
    observations = torch.zeros(1, 1, 3, dtype=torch.float64)
    assert forward(spec, torch.zeros(1, spec.size), observations).dtype == torch.float32


def test_wrong_shapes_are_refused() -> None:
    spec = PolicySpec(3, 2, (4,))
    phi = torch.zeros(5, spec.size)
    with pytest.raises(MetaMapError, match=r"expected shape \(\.\.\., states, 3\), got \(5, 1, 4\)"):
        forward(spec, phi, torch.zeros(5, 1, 4))
    with pytest.raises(MetaMapError, match="expected shape"):
        forward(spec, phi, torch.zeros(3))
    with pytest.raises(MetaMapError, match="do not broadcast"):
        forward(spec, phi, torch.zeros(4, 1, 3))
    with pytest.raises(MetaMapError, match="phi: expected shape"):
        forward(spec, phi[:, 1:], torch.zeros(5, 1, 3))


@settings(max_examples=60, deadline=None)
@given(SPECS, st.integers(1, 3), st.integers(0, 2**31))
def test_folded_weights_do_on_raw_observations_what_phi_does_on_normalised_ones(
    spec: PolicySpec, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    size = spec.observation_size
    normalizer = ObservationNormalizer(rng.normal(0, 3, size), np.exp(rng.uniform(-3, 3, size)))
    phi = rng.normal(0, 0.5, (batch, spec.size))
    before = phi.copy()
    raw = normalizer.mean + normalizer.std * rng.normal(0, 2, (batch, 4, size))
    expected = forward(spec, torch.from_numpy(phi), torch.from_numpy(normalizer.apply(raw))).numpy()
    folded = normalizer.fold(spec, phi)
    actual = forward(spec, torch.from_numpy(folded), torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * (1 + np.abs(expected).max()))
    np.testing.assert_array_equal(phi, before)
    np.testing.assert_array_equal(normalizer.fold(spec, phi[0]), folded[0])


def test_the_fold_computes_in_double_and_keeps_the_type() -> None:
    spec = PolicySpec(17, 6)
    rng = np.random.default_rng(0)
    normalizer = ObservationNormalizer(rng.normal(0, 3, 17), np.exp(rng.normal(0, 1, 17)))
    phi = rng.normal(0, 0.5, spec.size).astype(np.float32)
    folded = normalizer.fold(spec, phi)
    assert folded.dtype == np.float32
    np.testing.assert_array_equal(folded, normalizer.fold(spec, phi.astype(np.float64)).astype(np.float32))


def test_the_normaliser_by_hand() -> None:
    normalizer = ObservationNormalizer(np.array([1.0, -2.0]), np.array([2.0, 0.5]))
    np.testing.assert_array_equal(normalizer.apply([3.0, -1.0]), [1.0, 2.0])
    assert normalizer.apply(np.zeros((3, 2), np.float32)).dtype == np.float32
    assert normalizer.apply(np.zeros((3, 2), np.int64)).dtype == np.float64
    np.testing.assert_array_equal(normalizer.apply(np.full((1, 2), 1e6)), [[499999.5, 2000004.0]])  # no clipping
    identity = ObservationNormalizer.identity(2)
    np.testing.assert_array_equal(identity.apply([3.0, -1.0]), [3.0, -1.0])


def test_the_normaliser_is_frozen_and_comes_back_from_arrays() -> None:
    mean = np.array([1.0, -2.0])
    normalizer = ObservationNormalizer(mean, np.array([2.0, 0.5], np.float32))
    mean[0] = 9.0
    assert normalizer.mean[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        normalizer.mean[0] = 9.0
    again = ObservationNormalizer.from_arrays({**normalizer.to_arrays(), "phi": np.zeros(3)})
    np.testing.assert_array_equal(again.mean, normalizer.mean)
    np.testing.assert_array_equal(again.std, normalizer.std)
    with pytest.raises(MetaMapError, match=r"normalizer\.std"):
        ObservationNormalizer.from_arrays({"normalizer.mean": mean})


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0, 0.0], [1.0, 0.0], "std: expected positive"),
        ([0.0, 0.0], [1.0, -1.0], "std: expected positive"),
        ([0.0, np.nan], [1.0, 1.0], "mean: expected finite"),
        ([0.0, 0.0], [1.0, np.inf], "std: expected finite"),
        ([0.0, 0.0], [1.0], "mean has shape"),
        ([[0.0]], [[1.0]], "mean: expected finite numbers of shape"),
    ],
)
def test_wrong_statistics_are_refused(mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        ObservationNormalizer(np.array(mean), np.array(std))


def test_a_normaliser_of_another_size_is_refused() -> None:
    normalizer = ObservationNormalizer.identity(4)
    spec = PolicySpec(3, 2)
    with pytest.raises(MetaMapError, match=r"normalizer: .*3.* 4"):
        normalizer.fold(spec, np.zeros(spec.size))
    with pytest.raises(MetaMapError, match=r"expected shape \(\.\.\., 4\)"):
        normalizer.apply(np.zeros((2, 3)))
