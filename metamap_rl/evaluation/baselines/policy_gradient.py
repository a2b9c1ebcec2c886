"""MAML for policies: meta-learned initial weights and step sizes for policy gradient steps on D.

The inner step is REINFORCE on the rewards in D, as in MAML (Finn et al. 2017), since D contains no expert actions. The
outer loss is the error of the adapted policy against the training task's expert, as in guided meta-policy search
(Mendonca et al. 2019): far less noisy than returns of the adapted policy, and the mapper's loss too. Step sizes are
learned per weight (Meta-SGD, Li et al. 2017). Advantages are either returns minus a fitted baseline, or the output of a
learned network of the transition (NoRML, Yang et al. 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.common.config import Amount, Config, Count, Positive, PositiveNumber, Share
from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.data.examples import Batch, Examples, draw_length, usable_lengths
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.evaluation.baselines.adaptation import descend
from metamap_rl.mapper.scales import Scales
from metamap_rl.training.config import UpdateConfig
from metamap_rl.training.losses import LOSSES, Outcome
from metamap_rl.training.updates import gradient_step

__all__ = [
    "ADVANTAGES",
    "Adapter",
    "PolicyMAMLConfig",
    "policy_gradient_loss",
    "returns_to_go",
    "train_policy_maml",
]

ADVANTAGES = ("returns", "learned")

_RIDGE = 1e-3
_SMALLEST = 1e-6


@dataclass(frozen=True)
class PolicyMAMLConfig(Config):
    """Settings of MAML for policies.

    Raises:
        MetaMapError: an unknown loss or kind of advantage, or a number out of range.
    """

    called: ClassVar[str] = "policy gradient config"

    iterations: Positive = 2000
    """Meta-updates."""
    tasks: Positive = 16
    """Tasks in a meta-batch."""
    states: Positive = 128
    """States of each task for the outer loss."""
    loss: str = "both"
    """Name in `metamap_rl.training.losses.LOSSES`: weights, behaviour, or both."""
    weights_coefficient: Amount = 1.0
    """Coefficient of the weight loss in "both"."""
    inner_steps: Positive = 3
    """Policy gradient steps on D, in training and at test."""
    inner_rate: PositiveNumber = 0.1
    """Initial step size of every weight."""
    advantage: str = "returns"
    """Advantages: returns (to go, minus the baseline) or learned (a network)."""
    discount: Share = 0.9
    """Discount factor."""
    hidden: Positive = 64
    """Width of the network's hidden layers."""
    rate: PositiveNumber = 1e-3
    """Peak learning rate of Adam, the outer optimiser."""
    warmup: Count = 100
    """Meta-updates of the warm-up."""
    lengths: tuple[Positive, ...] = UpdateConfig.lengths
    """Lengths of D in transitions, one drawn for each meta-update."""
    from_start: Share = 0.5
    """Fraction of D that start at a rollout's first transition."""
    validation_every: Positive = 100
    """Meta-updates between validations."""
    validation_lengths: tuple[Positive, ...] = (5, 20, 100)
    """Lengths of D for validation."""
    seed: int = 0
    """Seed of the batches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", read_seed(self.seed, "policy gradient config: seed"))
        LOSSES.get(self.loss)
        if self.advantage not in ADVANTAGES:
            raise unknown_name("kind of advantage", self.advantage, ADVANTAGES)


def returns_to_go(rewards: Tensor, ends: Tensor, discount: float) -> Tensor:
    """Discounted returns to go within the episode, truncated at the end of D, [B, K] to [B, K]."""
    found = torch.zeros_like(rewards)
    total = torch.zeros_like(rewards[:, 0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        total = rewards[:, step] + discount * torch.where(ends[:, step], 0.0, total)
        found[:, step] = total
    return found


def policy_gradient_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """REINFORCE's surrogate loss, for actions of unit variance around ``outputs``, per task [B].

    Args:
        outputs: mean actions [B, K, A].
        targets: actions and, last, their advantages [B, K, A + 1].
    """
    actions, advantages = targets[..., :-1], targets[..., -1]
    return (advantages * 0.5 * (outputs - actions).square().sum(dim=-1)).mean(dim=-1)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Meta-learned parameters of adaptation: initial weights, step sizes, and advantages."""

    spec: PolicySpec
    normalizer: ObservationNormalizer
    phi: Tensor
    """Initial weights [P]."""
    rates: Tensor
    """Step size of each weight [P]."""
    baseline: Tensor
    """Baseline of the return to go, linear in (input, input squared, 1) [2 O + 1]; the same for all tasks."""
    scale: float
    """Scale of advantages."""
    discount: float
    steps: int
    network: nn.Module | None = None
    """Network from feature rows [B, K, F] to learned advantages [B, K, 1], if any."""

    def __call__(self, features: Tensor, ends: Tensor | None, *, create_graph: bool = False) -> Tensor:
        """Weights [B, P] after the policy gradient steps on D.

        Args:
            features: feature rows [B, K, F].
            ends: whether an episode ended with the transition, bool [B, K]; required for advantages "returns".
            create_graph: whether the result is differentiable in initial weights, step sizes and advantages.
        """
        observations, actions, rewards, _ = TransitionLayout.of(self.spec).unpack(features)
        inputs = _inputs(observations, self.normalizer)
        if self.network is not None:
            advantages = self.network(features)
        else:
            # Not centred in D, so that good and bad D differ.
            found = returns_to_go(rewards, _known(ends), self.discount)
            advantages = ((found - _baseline_features(inputs) @ self.baseline) / self.scale)[..., None]
        targets = torch.cat([actions, advantages], dim=-1)
        return descend(
            self.spec,
            self.phi.expand(len(features), -1),
            inputs,
            targets if create_graph else targets.detach(),
            loss=policy_gradient_loss,
            rate=self.rates,
            steps=self.steps,
            create_graph=create_graph,
        )


def _inputs(observations: Tensor, normalizer: ObservationNormalizer) -> Tensor:
    """Normalised observations."""
    mean, std = (torch.tensor(part, dtype=torch.float32) for part in (normalizer.mean, normalizer.std))
    return (observations - mean) / std


def _known(ends: Tensor | None) -> Tensor:
    if ends is None:
        raise MetaMapError("policy gradient: expected transitions with flags of episode ends, got none")
    return ends


def _baseline_features(inputs: Tensor) -> Tensor:
    bounded = inputs.clamp(-5.0, 5.0)
    return torch.cat([bounded, bounded.square(), torch.ones_like(bounded[..., :1])], dim=-1)


def _new_adapter(
    spec: PolicySpec, normalizer: ObservationNormalizer, phi: Tensor, examples: Examples, config: PolicyMAMLConfig
) -> Adapter:
    """A new adapter, with its baseline fitted to all training tasks."""
    observations, _, rewards, _ = TransitionLayout.of(spec).unpack(examples.features.flatten(0, 1))
    rows = _baseline_features(_inputs(observations, normalizer)).flatten(0, 1).double()
    found = returns_to_go(rewards, _known(examples.ends).flatten(0, 1), config.discount).flatten().double()
    gram = rows.T @ rows / len(rows) + _RIDGE * torch.eye(rows.shape[1], dtype=torch.float64)
    baseline = torch.linalg.solve(gram, rows.T @ found / len(rows))
    scale = float((found - rows @ baseline).square().mean().sqrt().clamp(min=_SMALLEST))
    rates = torch.full_like(phi, config.inner_rate)
    network = None
    if config.advantage == "learned":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = _AdvantageNetwork(examples, config.hidden)
    return Adapter(spec, normalizer, phi, rates, baseline.float(), scale, config.discount, config.inner_steps, network)


class _AdvantageNetwork(nn.Module):
    """Network of learned advantages, from standardised feature rows."""

    mean: Tensor
    std: Tensor

    def __init__(self, examples: Examples, hidden: int) -> None:
        super().__init__()
        scales = Scales.of(examples, torch.zeros(examples.phi.shape[-1]))
        self.register_buffer("mean", scales.feature_mean)
        self.register_buffer("std", scales.feature_std)
        self.layers = nn.Sequential(
            nn.Linear(len(self.mean), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers((features - self.mean) / self.std)
        return found


def train_policy_maml(
    spec: PolicySpec,
    normalizer: ObservationNormalizer,
    start: Tensor,
    examples: Examples,
    validation: Examples,
    config: PolicyMAMLConfig,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Adapter:
    """Train initial weights and step sizes; returns those with the lowest validation loss.

    Args:
        spec: architecture of the policies.
        normalizer: normaliser of the family.
        start: first value of the initial weights [P], such as phi_0.
        examples: training tasks.
        validation: tasks for model selection.
        config: settings.
        on_iteration: called after every meta-update with the number of updates and the loss.

    Raises:
        MetaMapError: the loss is not finite, or the examples have no flags of episode ends.
    """
    generator = torch.Generator().manual_seed(config.seed)
    phi = start.detach().clone().requires_grad_()
    gains = torch.ones_like(phi, requires_grad=True)  # in units of the initial step size, for one learning rate of Adam
    first = _new_adapter(spec, normalizer, phi.detach(), examples, config)
    moved = torch.zeros_like(first.baseline, requires_grad=True)  # in units of an advantage, for the same reason
    learned = [phi, gains, *([moved] if first.network is None else first.network.parameters())]
    optimiser = torch.optim.Adam(learned, lr=config.rate)
    scale = Scales.of(examples, start).weight_scale

    def adapter() -> Adapter:
        return _with(first, phi, config.inner_rate * gains, first.baseline + first.scale * moved)

    def fixed() -> Adapter:
        found = adapter()
        parts = (part.detach().clone() for part in (found.phi, found.rates, found.baseline))
        return replace(_with(found, *parts), network=copy.deepcopy(found.network))

    best = (_validation_loss(fixed(), validation, config), fixed())
    for iteration in range(config.iterations):
        length = draw_length(config.lengths, examples.features.shape[2], generator)
        batch = examples.sample(
            generator, tasks=config.tasks, length=length, states=config.states, from_start=config.from_start
        )
        loss = LOSSES.get(config.loss)(_outcome(adapter(), batch, scale, config.weights_coefficient))
        rate = warmup_cosine(iteration, config.iterations, warmup=config.warmup, highest=config.rate)
        gradient_step(loss, optimiser, update=iteration, rate=rate, clip=1.0)
        if (iteration + 1) % config.validation_every == 0 or iteration + 1 == config.iterations:
            found = _validation_loss(fixed(), validation, config)
            if found < best[0]:
                best = (found, fixed())
        if on_iteration is not None:
            on_iteration(iteration + 1, loss.item())
    return best[1]


def _with(adapter: Adapter, phi: Tensor, rates: Tensor, baseline: Tensor) -> Adapter:
    return replace(adapter, phi=phi, rates=rates, baseline=baseline)


def _outcome(adapter: Adapter, batch: Batch, scale: Tensor, weights_coefficient: float) -> Outcome:
    """Outcome of the adapted policies, for the mapper's losses."""
    adapted = adapter(batch.features, batch.ends, create_graph=True)
    return Outcome(adapter.spec, adapted, batch.phi, scale, batch.inputs, batch.targets, weights_coefficient)


def _validation_loss(adapter: Adapter, examples: Examples, config: PolicyMAMLConfig) -> float:
    """Mean squared error of actions, over lengths and rollouts, each D from its first transition."""
    losses = []
    for length in usable_lengths(config.validation_lengths, examples.features.shape[2]):
        for rollout in range(examples.features.shape[1]):
            ends = None if examples.ends is None else examples.ends[:, rollout, :length]
            adapted = adapter(examples.features[:, rollout, :length], ends)
            with torch.no_grad():
                outputs = forward(adapter.spec, adapted, examples.inputs)
            losses.append(float((outputs - examples.targets).square().mean()))
    return sum(losses) / len(losses)
