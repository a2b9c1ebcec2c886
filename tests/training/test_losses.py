from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.training.losses import LOSSES, Outcome, behaviour, both, weights

LINEAR = PolicySpec(1, 1, hidden=())
every_loss = pytest.mark.parametrize("name", LOSSES.names())


def by_hand() -> Outcome:
    """One task, y = w x + b: (w, b) = (3, 1) generated, (1, 0) wanted; in units of 2 and 0.5."""
    return Outcome(
        spec=LINEAR,
        phi_hat=torch.tensor([[3.0, 1.0]]),
        phi=torch.tensor([[1.0, 0.0]]),
        scale=torch.tensor([2.0, 0.5]),
        inputs=torch.tensor([[[0.0], [1.0]]]),
        targets=torch.tensor([[[0.0], [1.0]]]),
        weights_coefficient=0.2,
    )


def random_outcome(spec: PolicySpec, phi_hat: Tensor, phi: Tensor) -> Outcome:
    inputs = torch.randn(len(phi), 11, spec.observation_size, generator=torch.Generator().manual_seed(5))
    return Outcome(spec, phi_hat, phi, torch.ones(spec.size), inputs, forward(spec, phi, inputs))


def test_worked_out_by_hand() -> None:
    # Weights: ((2/2)^2 + (1/0.5)^2) / 2. Behaviour: 1 - 0 at x = 0, 4 - 1 at x = 1, so (1 + 9) / 2.
    assert weights(by_hand()).item() == pytest.approx(2.5)
    assert behaviour(by_hand()).item() == pytest.approx(5.0)
    assert both(by_hand()).item() == pytest.approx(0.2 * 2.5 + 5.0)


@every_loss
def test_zero_at_the_expert_and_a_gradient_elsewhere(name: str) -> None:
    spec = PolicySpec(3, 2, hidden=(5,))
    phi = torch.randn(4, spec.size, generator=torch.Generator().manual_seed(0))
    loss = LOSSES.get(name)
    assert loss(random_outcome(spec, phi, phi)).item() == pytest.approx(0, abs=1e-10)
    moved = (phi + 0.1).requires_grad_()
    value = loss(random_outcome(spec, moved, phi))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() > 0
    assert moved.grad is not None
    assert (moved.grad != 0).any(dim=1).all()


def test_only_the_weight_loss_minds_the_order_of_hidden_units() -> None:
    spec = PolicySpec(3, 2, hidden=(5,))
    phi = torch.randn(2, spec.size, generator=torch.Generator().manual_seed(0))
    parts, order = dict(spec.split(phi)), torch.tensor([3, 1, 4, 0, 2])
    parts["layers.0.weight"] = parts["layers.0.weight"][:, order]
    parts["layers.0.bias"] = parts["layers.0.bias"][:, order]
    parts["layers.1.weight"] = parts["layers.1.weight"][:, :, order]
    outcome = random_outcome(spec, spec.join(parts), phi)
    assert weights(outcome).item() > 0.1
    assert behaviour(outcome).item() == pytest.approx(0, abs=1e-10)


def test_actions_beyond_the_actuators_range_are_not_clamped() -> None:
    far = torch.tensor([[100.0, 0.0]], requires_grad=True)
    outcome = random_outcome(LINEAR, far, torch.tensor([[50.0, 0.0]]))
    behaviour(outcome).backward()  # type: ignore[no-untyped-call]
    assert far.grad is not None
    assert far.grad[0, 0] > 0


def test_a_wrong_name_teaches() -> None:
    with pytest.raises(MetaMapError, match=r"unknown loss 'behavior': did you mean 'behaviour'"):
        LOSSES.get("behavior")
