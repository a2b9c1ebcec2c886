"""MAML for policies: a start, and step sizes, from which a policy gradient on D leads to the task's expert.

The inner step is REINFORCE on the rewards in D, as in MAML (Finn et al. 2017): D holds no expert's actions, at
test least of all. The outer loss is how far the adapted policy is from the training task's expert, as in guided
meta-policy search (Mendonca et al. 2019): a far less noisy signal than the returns of the adapted policy, and the one
that the mapper learns from. Every weight has a step size of its own, learned as well (Meta-SGD, Li et al. 2017), and so
is what makes a step of D good or bad: either a baseline that its return is compared with, or all of it, a network that
reads the transition (NoRML, Yang et al. 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.data.examples import Batch, Examples, draw_length, usable_lengths
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.evaluation.baselines.adaptation import descend
from metamap_rl.mapper.scales import Scales
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
class PolicyMAMLConfig:
    """How it is trained.

    Raises:
        MetaMapError: an unknown loss or kind of advantage.
    """

    iterations: int = 2000
    """Meta-updates."""
    tasks: int = 16
    """Tasks in a meta-batch."""
    states: int = 128
    """States of each task on which the adapted policy is judged."""
    loss: str = "both"
    """Name in `metamap_rl.training.losses.LOSSES`: weights, behaviour, or both."""
    weights_coefficient: float = 1.0
    """Share of the weight loss in "both"."""
    inner_steps: int = 3
    """Policy gradient steps on D, in training and at test."""
    inner_rate: float = 0.1
    """Where the step size of every weight starts."""
    advantage: str = "returns"
    """What is good about an action: returns (to go, above the baseline) or learned (a network)."""
    discount: float = 0.9
    """Of the rewards that follow an action."""
    hidden: int = 64
    """Width of the network's hidden layers."""
    rate: float = 1e-3
    """Highest learning rate of Adam, the outer optimiser."""
    warmup: int = 100
    """Meta-updates over which it rises."""
    lengths: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    """Steps of D, one length drawn for each meta-update."""
    from_start: float = 0.5
    """Share of the D that begin at a rollout's first step."""
    validation_every: int = 100
    """Meta-updates between validations."""
    validation_lengths: tuple[int, ...] = (5, 20, 100)
    """Steps of D that validation averages over."""
    seed: int = 0
    """Of every batch."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "policy gradient config: seed"))
        LOSSES.get(self.loss)
        if self.advantage not in ADVANTAGES:
            raise unknown_name("kind of advantage", self.advantage, ADVANTAGES)


def returns_to_go(rewards: Tensor, ends: Tensor, discount: float) -> Tensor:
    """Discounted sums of what follows within the episode, [B, K] to [B, K]; what comes after D counts nothing."""
    found = torch.zeros_like(rewards)
    total = torch.zeros_like(rewards[:, 0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        total = rewards[:, step] + discount * torch.where(ends[:, step], 0.0, total)
        found[:, step] = total
    return found


def policy_gradient_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The surrogate whose gradient is REINFORCE's, for actions of unit variance around ``outputs``, per task [B].

    Args:
        outputs: mean actions [B, K, A].
        targets: the actions taken and, last, their advantages [B, K, A + 1].
    """
    actions, advantages = targets[..., :-1], targets[..., -1]
    return (advantages * 0.5 * (outputs - actions).square().sum(dim=-1)).mean(dim=-1)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A start, step sizes, and what an advantage is: all that adaptation needs besides D."""

    spec: PolicySpec
    normalizer: ObservationNormalizer
    phi: Tensor
    """Where every task starts [P]."""
    rates: Tensor
    """Step size of each weight [P]."""
    baseline: Tensor
    """Expected return to go, linear in (input, input squared, 1) [2 O + 1]; the same for all tasks."""
    scale: float
    """One unit of an advantage."""
    discount: float
    steps: int
    network: nn.Module | None = None
    """Feature rows [B, K, F] to advantages [B, K, 1], where they are learned."""

    def __call__(self, features: Tensor, ends: Tensor | None, *, create_graph: bool = False) -> Tensor:
        """Weights [B, P] after the policy gradient steps on D.

        Args:
            features: feature rows [B, K, F].
            ends: whether an episode ended with the transition, bool [B, K]; needed where advantages are returns.
            create_graph: whether the outcome is a function of start, step sizes and advantages.
        """
        observations, actions, rewards, _ = TransitionLayout.of(self.spec).unpack(features)
        inputs = _inputs(observations, self.normalizer)
        if self.network is not None:
            advantages = self.network(features)
        else:
            # Not centred in D, so that it tells good from bad D.
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
        raise MetaMapError("policy gradient: expected transitions with flags of where episodes end, got none")
    return ends


def _baseline_features(inputs: Tensor) -> Tensor:
    bounded = inputs.clamp(-5.0, 5.0)
    return torch.cat([bounded, bounded.square(), torch.ones_like(bounded[..., :1])], dim=-1)


def _new_adapter(
    spec: PolicySpec, normalizer: ObservationNormalizer, phi: Tensor, examples: Examples, config: PolicyMAMLConfig
) -> Adapter:
    """An adapter before training; its baseline is fitted to all training tasks."""
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
    """A learned advantage: feature rows, in units of the training tasks, to a number."""

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
    """Train a start and step sizes; those with the least validation loss are returned.

    Args:
        spec: shape of the policies.
        normalizer: of the family.
        start: first value of the common start [P], such as phi_0.
        examples: training tasks.
        validation: tasks to choose on.
        config: settings.
        on_iteration: called after every meta-update with their number and the loss.

    Raises:
        MetaMapError: the loss stopped being finite, or the examples do not say where episodes end.
    """
    generator = torch.Generator().manual_seed(config.seed)
    phi = start.detach().clone().requires_grad_()
    gains = torch.ones_like(phi, requires_grad=True)  # of the first step size: Adam's steps then fit both
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
    """The adapted policies beside the experts, as the mapper's losses take them."""
    adapted = adapter(batch.features, batch.ends, create_graph=True)
    return Outcome(adapter.spec, adapted, batch.phi, scale, batch.inputs, batch.targets, weights_coefficient)


def _validation_loss(adapter: Adapter, examples: Examples, config: PolicyMAMLConfig) -> float:
    """Mean squared error of actions, over lengths and rollouts, each D from its first step."""
    losses = []
    for length in usable_lengths(config.validation_lengths, examples.features.shape[2]):
        for rollout in range(examples.features.shape[1]):
            ends = None if examples.ends is None else examples.ends[:, rollout, :length]
            adapted = adapter(examples.features[:, rollout, :length], ends)
            with torch.no_grad():
                outputs = forward(adapter.spec, adapted, examples.inputs)
            losses.append(float((outputs - examples.targets).square().mean()))
    return sum(losses) / len(losses)
