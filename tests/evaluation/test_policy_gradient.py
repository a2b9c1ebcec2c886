"""MAML for policies: the inner step is REINFORCE's, and meta-learning makes it lead somewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import Examples
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.evaluation.baselines import PolicyMAMLConfig, train_policy_maml
from metamap_rl.evaluation.baselines.policy_gradient import ADVANTAGES, policy_gradient_loss, returns_to_go

SPEC = PolicySpec(2, 1, hidden=(8,))
NORMALIZER = ObservationNormalizer(np.array([1.0, -2.0]), np.array([2.0, 0.5]))


def test_returns_to_go_by_hand() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    ends = torch.tensor([[False, True, False, True]])
    assert returns_to_go(rewards, ends, 0.5).tolist() == [[2.0, 2.0, 8.0, 8.0]]
    assert returns_to_go(rewards, ends, 0.0).tolist() == rewards.tolist()


def test_the_surrogates_gradient_is_that_of_the_log_probability() -> None:
    outputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    actions, advantages = torch.randn(2, 5, 3), torch.randn(2, 5)
    loss = policy_gradient_loss(outputs, torch.cat([actions, advantages[..., None]], dim=-1))
    log_probability = torch.distributions.Normal(outputs, 1.0).log_prob(actions).sum(dim=-1)
    expected = torch.autograd.grad(-(advantages * log_probability).mean(dim=-1).sum(), outputs, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), outputs), expected)


def told_by_reward(tasks: int, seed: int) -> Examples:
    """Tasks whose reward says which way the expert goes: noise around action 0, reward = sign x action."""
    generator = np.random.default_rng(seed)
    sign = np.where(np.arange(tasks) % 2, 1.0, -1.0).astype(np.float32)
    observations = generator.normal(size=(tasks, 2, 30, 2)).astype(np.float32)
    actions = generator.normal(size=(tasks, 2, 30, 1)).astype(np.float32)
    rewards = (sign[:, None, None] * actions[..., 0]).astype(np.float32)
    inputs = generator.normal(size=(tasks, 40, 2)).astype(np.float32)
    targets = np.broadcast_to(sign[:, None, None], (tasks, 40, 1)).astype(np.float32)
    return Examples(
        features=torch.from_numpy(TransitionLayout.of(SPEC).pack(observations, actions, rewards, observations)),
        phi=torch.zeros(tasks, SPEC.size),
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(targets.copy()),
        ends=torch.ones(tasks, 2, 30, dtype=torch.bool),
    )


def start() -> torch.Tensor:
    return 0.3 * torch.randn(SPEC.size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_meta_learning_makes_the_policy_gradient_find_the_task(advantage: str) -> None:
    config = PolicyMAMLConfig(
        iterations=160,
        tasks=8,
        states=16,
        loss="behaviour",
        advantage=advantage,
        inner_steps=2,
        discount=0.0,
        rate=1e-2,
        warmup=5,
        validation_every=25,
    )
    adapter = train_policy_maml(SPEC, NORMALIZER, start(), told_by_reward(16, 0), told_by_reward(8, 1), config)
    fresh = told_by_reward(10, 2)
    adapted = adapter(fresh.features[:, 0], fresh.ends[:, 0])
    after = (forward(SPEC, adapted, fresh.inputs) - fresh.targets).square().mean().item()
    before = (forward(SPEC, adapter.phi.expand(10, -1), fresh.inputs) - fresh.targets).square().mean().item()
    assert before > 0.8, "no one policy suits both kinds of tasks"
    assert after < 0.25


def test_the_same_seed_gives_the_same_start() -> None:
    config = PolicyMAMLConfig(iterations=3, tasks=4, states=8, validation_every=1)
    data = told_by_reward(6, 0), told_by_reward(4, 1)
    first, second = (train_policy_maml(SPEC, NORMALIZER, start(), *data, config) for _ in range(2))
    assert torch.equal(first.phi, second.phi)
    assert torch.equal(first.rates, second.rates)


def test_an_unknown_kind_of_advantage_teaches() -> None:
    with pytest.raises(MetaMapError, match="unknown kind of advantage 'learnt': did you mean 'learned'"):
        PolicyMAMLConfig(advantage="learnt")


def test_divergence_is_reported() -> None:
    config = PolicyMAMLConfig(iterations=5, inner_rate=1e25, inner_steps=4)
    with pytest.raises(MetaMapError, match="diverged"):
        train_policy_maml(SPEC, NORMALIZER, start(), told_by_reward(6, 0), told_by_reward(4, 1), config)


def test_examples_that_do_not_say_where_episodes_end_are_refused() -> None:
    blind = replace(told_by_reward(6, 0), ends=None)
    with pytest.raises(MetaMapError, match="episode ends"):
        train_policy_maml(SPEC, NORMALIZER, start(), blind, blind, PolicyMAMLConfig(iterations=1))
