from __future__ import annotations

import pytest
import torch
from torch import nn

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.hypernetworks import HYPERNETWORKS

CONTEXT = 8
SPEC = PolicySpec(5, 3, (4, 6), "tanh")
PHI_0 = torch.randn(SPEC.size, generator=torch.Generator().manual_seed(3))
every_hypernetwork = pytest.mark.parametrize("name", HYPERNETWORKS.names())


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    hypernetwork = HYPERNETWORKS.get(name)(CONTEXT, SPEC, 16)
    assert isinstance(hypernetwork, nn.Module)
    return hypernetwork


@every_hypernetwork
def test_it_answers_zero_before_training(name: str) -> None:
    z = 100 * torch.randn(4, CONTEXT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(build(name)(z, PHI_0), torch.zeros(4, SPEC.size))


@every_hypernetwork
def test_one_update_leaves_zero(name: str) -> None:
    hypernetwork = build(name)
    optimiser = torch.optim.SGD(hypernetwork.parameters(), lr=0.1)
    z = torch.randn(4, CONTEXT, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # after the first update the hidden layers get a gradient too
        optimiser.zero_grad()
        (hypernetwork(z, PHI_0) - 1).square().mean().backward()
        optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in hypernetwork.parameters())
    delta = hypernetwork(z, PHI_0)
    assert (delta != 0).all()
    assert (delta[0] != delta[1]).any()


def test_a_wrong_name_teaches() -> None:
    with pytest.raises(MetaMapError, match=r"unknown hypernetwork 'residul': did you mean 'residual'"):
        HYPERNETWORKS.get("residul")


@every_hypernetwork
def test_hypernetworks_of_two_robots_share_a_core(name: str) -> None:
    hypernetwork = build(name)
    other = HYPERNETWORKS.get(name)(CONTEXT, PolicySpec(7, 2, (4, 6), "tanh"), 16)
    assert isinstance(other, nn.Module)
    other.share_core(hypernetwork)
    shared = {id(parameter) for parameter in hypernetwork.parameters()} & {id(item) for item in other.parameters()}
    assert shared
    z = torch.zeros(2, CONTEXT)
    assert not other(z, torch.ones(PolicySpec(7, 2, (4, 6), "tanh").size)).any()


def test_a_gain_turns_one_action_round_whatever_the_others_do() -> None:
    hypernetwork = build("modulation")
    with torch.no_grad():
        hypernetwork.rows.bias[-2] = -2.0
    before, after = SPEC.split(PHI_0), SPEC.split(PHI_0 + hypernetwork(torch.zeros(1, CONTEXT), PHI_0)[0])
    for name in before:
        turned = before[name].clone()
        if name in ("layers.2.weight", "layers.2.bias"):
            turned[1] *= -1
        torch.testing.assert_close(after[name], turned)
