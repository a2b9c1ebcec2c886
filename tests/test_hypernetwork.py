from __future__ import annotations

import pytest
import torch
from torch import nn

from metamap_envs.errors import MetaMapError
from metamap_rl.hypernetwork import HYPERNETWORKS

CONTEXT, WEIGHTS = 8, 50
every_hypernetwork = pytest.mark.parametrize("name", HYPERNETWORKS.names())


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    hypernetwork = HYPERNETWORKS.get(name)(CONTEXT, WEIGHTS, 16)
    assert isinstance(hypernetwork, nn.Module)
    return hypernetwork


@every_hypernetwork
def test_it_answers_zero_before_training(name: str) -> None:
    z = 100 * torch.randn(4, CONTEXT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(build(name)(z), torch.zeros(4, WEIGHTS))


@every_hypernetwork
def test_one_update_leaves_zero(name: str) -> None:
    hypernetwork = build(name)
    optimiser = torch.optim.SGD(hypernetwork.parameters(), lr=0.1)
    z = torch.randn(4, CONTEXT, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # after the first update the hidden layers get a gradient too
        optimiser.zero_grad()
        (hypernetwork(z) - 1).square().mean().backward()
        optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in hypernetwork.parameters())
    delta = hypernetwork(z)
    assert (delta != 0).all()
    assert (delta[0] != delta[1]).any()


def test_a_wrong_name_teaches() -> None:
    with pytest.raises(MetaMapError, match=r"unknown hypernetwork 'residul': did you mean 'residual'"):
        HYPERNETWORKS.get("residul")
