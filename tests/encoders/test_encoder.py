from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metamap_envs.errors import MetaMapError
from metamap_rl.common.registry import Registry
from metamap_rl.encoders import ENCODERS
from metamap_rl.encoders.pooling import PoolingEncoder

FEATURES, CONTEXT = 7, 8
every_encoder = pytest.mark.parametrize("name", ENCODERS.names())
every_set_encoder = pytest.mark.parametrize(
    "name", [name for name in ENCODERS.names() if not ENCODERS.get(name).ordered]
)
every_sequence_encoder = pytest.mark.parametrize(
    "name", [name for name in ENCODERS.names() if ENCODERS.get(name).ordered]
)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS.get(name)(FEATURES, CONTEXT, 16)
    assert isinstance(encoder, nn.Module)
    return encoder


def rows(batch: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, count, FEATURES, generator=torch.Generator().manual_seed(seed))


@every_set_encoder
@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 50), seed=st.integers(0, 10_000))
def test_the_order_of_transitions_does_not_matter(name: str, count: int, seed: int) -> None:
    encoder, features = build(name), rows(2, count, seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    mask = torch.rand(2, count, generator=torch.Generator().manual_seed(seed)) < 0.7
    torch.testing.assert_close(encoder(features), encoder(features[:, order]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        encoder(features, mask), encoder(features[:, order], mask[:, order]), atol=1e-4, rtol=1e-4
    )


@every_sequence_encoder
def test_the_order_matters_to_those_that_say_so(name: str) -> None:
    encoder, features = build(name), rows(2, 20)
    assert (encoder(features) - encoder(features.flip(1))).abs().max() > 1e-3


@every_encoder
@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_a_hidden_row_is_as_good_as_none_wherever_it_stands(name: str, count: int, seed: int) -> None:
    encoder, features = build(name), rows(1, count, seed)
    mask = torch.rand(1, count, generator=torch.Generator().manual_seed(seed)) < 0.7
    mask[0, 0] = True
    torch.testing.assert_close(encoder(features, mask), encoder(features[mask][None]), atol=1e-4, rtol=1e-4)


@every_encoder
@pytest.mark.parametrize("content", [0.0, 1e9, float("nan"), float("inf")])
def test_what_the_mask_hides_changes_no_bit(name: str, content: float) -> None:
    encoder, features = build(name), rows(3, 20)
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) < 0.5
    other = torch.where(mask.unsqueeze(-1), features, content)
    assert torch.equal(encoder(features, mask), encoder(other, mask))


@every_encoder
def test_hidden_nan_does_not_reach_the_gradient(name: str) -> None:
    encoder = build(name)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 3:] = False
    encoder(torch.where(mask.unsqueeze(-1), rows(2, 6), torch.nan), mask).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters() if parameter.grad is not None)


@every_encoder
@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 30), padding=st.integers(0, 30))
def test_padding_does_not_matter(name: str, count: int, padding: int) -> None:
    encoder, features = build(name), rows(2, count)
    padded = torch.cat([features, torch.full((2, padding, FEATURES), 5.0)], dim=1)
    mask = (torch.arange(count + padding) < count).expand(2, -1)
    torch.testing.assert_close(encoder(padded, mask), encoder(features), atol=1e-4, rtol=1e-4)


@every_encoder
def test_one_transition_has_a_finite_gradient(name: str) -> None:
    encoder, features = build(name), rows(2, 1).requires_grad_()
    encoder(features)[:, 0].sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters() if parameter.grad is not None)


@every_encoder
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_z_is_bounded(name: str, scale: float) -> None:
    z = build(name)(scale * rows(4, 9))
    assert z.shape == (4, CONTEXT)
    assert z.isfinite().all()
    assert z.abs().max() <= 10


@every_encoder
def test_other_transitions_give_another_z(name: str) -> None:
    z = build(name)(rows(2, 30))
    assert (z[0] - z[1]).abs().max() > 1e-3


@every_encoder
def test_nothing_at_all_gives_a_finite_z(name: str) -> None:
    encoder = build(name)
    assert encoder(rows(2, 4), torch.zeros(2, 4, dtype=torch.bool)).isfinite().all()
    assert encoder(rows(2, 0)).isfinite().all()


@every_encoder
def test_encoders_of_two_robots_share_all_but_what_reads_the_features(name: str) -> None:
    encoder = build(name)
    other = ENCODERS.get(name)(FEATURES + 3, CONTEXT, 16)
    assert isinstance(other, nn.Module)
    other.share_core(encoder)
    shared = {id(parameter) for parameter in encoder.parameters()}
    own = [parameter for parameter in other.parameters() if id(parameter) not in shared]
    assert [tuple(parameter.shape) for parameter in own] == [(16, FEATURES + 3), (16,)]
    assert other(torch.ones(2, 4, FEATURES + 3)).shape == (2, CONTEXT)


def test_pooling_keeps_the_norm_of_z() -> None:
    z = PoolingEncoder(FEATURES, CONTEXT, 16)(1e5 * rows(16, 5))
    assert (z.norm(dim=-1) <= CONTEXT**0.5 * 1.0001).all()


def test_a_wrong_name_teaches() -> None:
    with pytest.raises(MetaMapError, match=r"unknown encoder 'poling': did you mean 'pooling'"):
        ENCODERS.get("poling")


def test_a_name_is_given_once() -> None:
    registry: Registry[int] = Registry("thing")
    registry.register("one")(1)
    with pytest.raises(MetaMapError, match="thing 'one' is registered already"):
        registry.register("one")
    assert registry.names() == ("one",)
    assert registry.get("one") == 1
