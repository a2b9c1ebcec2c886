from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.baselines import (
    FewShotBatch,
    MAMLConfig,
    ReptileConfig,
    cross_entropy,
    descend,
    maml_loss,
    reptile_update,
    squared_error,
    train_maml,
    train_reptile,
)
from metamap_rl.functions import initial_weights
from metamap_rl.functions.sinusoid import Sinusoid

LINE = PolicySpec(1, 1, hidden=())  # y = w x + b


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lines(tasks: int) -> FewShotBatch:
    draw = generator()
    x, y = (torch.randn(tasks, 7, 1, generator=draw, dtype=torch.float64) for _ in range(2))
    return FewShotBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])


def quadratic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A and c of the gradient A w - c of the mean squared error of a line."""
    rows = torch.cat([x, torch.ones_like(x)], dim=-1)
    return 2 * rows.mT @ rows / len(x), 2 * (rows.mT @ y)[:, 0] / len(x)


def test_mamls_gradient_is_the_second_order_one_by_hand() -> None:
    # For a line the loss is quadratic: w' = w - r (A w - c), so dL(w')/dw = (I - r A) (A' w' - c').
    episodes, rate = lines(4), 0.1
    phi = torch.tensor([0.5, -0.3], dtype=torch.float64).repeat(4, 1).requires_grad_()
    losses = maml_loss(LINE, phi, episodes, MAMLConfig(inner_rate=rate))
    (gradients,) = torch.autograd.grad(losses.sum(), phi)
    for task in range(4):
        inner, c = quadratic(episodes.support_inputs[task], episodes.support_targets[task])
        outer, d = quadratic(episodes.inputs[task], episodes.targets[task])
        w = phi[task].detach()
        adapted = w - rate * (inner @ w - c)
        expected = (torch.eye(2) - rate * inner) @ (outer @ adapted - d)
        torch.testing.assert_close(gradients[task], expected)
        # Without second derivatives it would be another one.
        assert not torch.allclose(gradients[task], outer @ adapted - d, rtol=1e-2)


def test_mamls_gradient_of_a_small_network_agrees_with_differences() -> None:
    spec = PolicySpec(1, 1, hidden=(3,))
    config = MAMLConfig(inner_rate=0.2, inner_steps=2)
    phi = initial_weights(spec, generator(1)).double().expand(4, -1).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda weights: maml_loss(spec, weights, lines(4), config), (phi,))


def test_gradient_steps_of_many_tasks_are_those_of_each() -> None:
    episodes = lines(3)
    start = torch.tensor([0.5, -0.3], dtype=torch.float64)
    together = descend(
        LINE,
        start.expand(3, -1),
        episodes.support_inputs,
        episodes.support_targets,
        loss=squared_error,
        rate=0.1,
        steps=4,
    )
    assert not together.requires_grad
    for task in range(3):
        inner, c = quadratic(episodes.support_inputs[task], episodes.support_targets[task])
        w = start
        for _ in range(4):
            w = w - 0.1 * (inner @ w - c)
        torch.testing.assert_close(together[task], w)


def test_cross_entropy_is_pytorchs() -> None:
    logits = torch.randn(3, 5, 4, generator=generator())
    labels = torch.randint(4, (3, 5), generator=generator())
    expected = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none").mean(dim=1)
    torch.testing.assert_close(cross_entropy(logits, torch.eye(4)[labels]), expected)


def test_reptile_moves_a_share_of_the_way_to_the_mean() -> None:
    phi = torch.tensor([[1.0, 2.0]])
    adapted = torch.tensor([[[3.0, 2.0], [5.0, 0.0]]])
    torch.testing.assert_close(reptile_update(phi, adapted, 0.5), torch.tensor([[2.5, 1.5]]))


def test_reptile_is_sgd_and_interpolation() -> None:
    x, y = torch.randn(1, 4, 1, generator=generator()), torch.randn(1, 4, 1, generator=generator(1))
    episodes = FewShotBatch(x, y, x[:, :1], y[:, :1])
    config = ReptileConfig(iterations=2, inner_rate=0.1, minibatch=4, outer_rate=0.5)
    start = torch.tensor([[0.2, 0.1]])
    A, c = quadratic(x[0], y[0])
    w = start[0]
    for share in (0.5, 0.25):  # the outer rate falls linearly
        w = w + share * (w - 0.1 * (A @ w - c) - w)
    found = train_reptile(LINE, start, lambda draw, tasks: episodes, config)
    torch.testing.assert_close(found[0], w)


@pytest.mark.parametrize("method", ["maml", "reptile"])
def test_training_helps_adaptation_and_repeats_itself(method: str) -> None:
    family = Sinusoid()
    start = initial_weights(family.spec, generator(), count=2)

    def trained() -> Tensor:
        if method == "maml":
            return train_maml(
                family.spec,
                start,
                lambda draw, tasks: family.draw(draw, tasks=tasks, points=10, queries=10),
                MAMLConfig(iterations=300, rate=3e-3),
            )
        return train_reptile(
            family.spec,
            start,
            lambda draw, tasks: family.draw(draw, tasks=tasks, points=50, queries=1),
            ReptileConfig(iterations=600),
        )

    def error(phi: Tensor) -> float:
        episodes = family.draw(generator(9), tasks=200, points=10, queries=20)
        adapted = descend(
            family.spec,
            phi.expand(200, -1),
            episodes.support_inputs,
            episodes.support_targets,
            loss=squared_error,
            rate=0.01,
            steps=5,
        )
        return float(squared_error(forward(family.spec, adapted, episodes.inputs), episodes.targets).mean())

    phi = trained()
    assert torch.equal(phi, trained())
    assert not torch.equal(phi[0], phi[1])
    for run in range(2):
        assert error(phi[run]) < 0.9 * error(start[run])


def test_what_does_not_fit_is_reported() -> None:
    x = torch.zeros(2, 3, 1)
    with pytest.raises(MetaMapError, match=r"support_targets: expected \(2, 3, 1\), got \(2, 2, 1\)"):
        FewShotBatch(x, x[:, :2], x, x)
    with pytest.raises(MetaMapError, match="expected steps >= 0 and a rate > 0"):
        descend(LINE, torch.zeros(2, 2), x, x, loss=squared_error, rate=0.0, steps=1)
    for train_it, config in ((train_maml, MAMLConfig()), (train_reptile, ReptileConfig())):
        with pytest.raises(MetaMapError, match=r"expected weights \[R, 2\], got \(2,\)"):
            train_it(LINE, torch.zeros(2), lambda draw, tasks: lines(tasks), config)  # type: ignore[arg-type]


def test_fewer_shots_are_the_first_ones() -> None:
    episodes = lines(2)
    few = episodes.shots(2)
    assert torch.equal(few.support_inputs, episodes.support_inputs[:, :2])
    assert torch.equal(few.inputs, episodes.inputs)
    assert few.rows.shape == (2, 2, 2)
    assert len(few) == 2
    assert dataclasses.fields(few)
