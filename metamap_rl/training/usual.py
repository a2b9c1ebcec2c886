"""Novelty model of a family's D: fitted to probe rollouts of training tasks, with limits from other tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.beginnings import VIEWS, Beginnings, usual_contexts, views
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import (
    LARGEST_ERROR,
    SMALLEST_SPREAD,
    SelfCheck,
    Surprise,
    beginning_lengths,
    layer_sizes,
)
from metamap_rl.training.updates import gradient_step

if TYPE_CHECKING:
    from metamap_rl.training.config import CalibrationConfig

__all__ = ["joint_limits", "learn_surprise", "usual", "usual_beginnings"]

Floats = NDArray[np.float32]

_SHRINK = 0.01  # added to the variance of observations and actions, in the mapper's units


def learn_surprise(mapper: Mapper, rows: Tensor, contexts: Tensor, config: CalibrationConfig) -> Surprise:
    """Fit the Gaussian of observation and action, and the network that predicts reward and change from them and z."""
    layout = TransitionLayout.of(mapper.base.spec)
    seen, outcome = rows[..., layout.state_action], rows[..., layout.outcome]
    network = _fit(seen, outcome.clamp(-LARGEST_ERROR, LARGEST_ERROR), contexts, config)
    layers = [module for module in network if isinstance(module, nn.Linear)]
    flat = seen.flatten(0, 1).double()
    mean = flat.mean(dim=0)
    covariance = (flat - mean).T @ (flat - mean) / len(flat) + _SHRINK * torch.eye(seen.shape[-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    whiten = vectors * values.rsqrt() @ vectors.T
    return Surprise(
        mean=mean.float().numpy(),
        whiten=whiten.float().numpy(),
        weights=tuple(layer.weight.detach().numpy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy() for layer in layers),
    )


def _fit(seen: Tensor, outcome: Tensor, contexts: Tensor, config: CalibrationConfig) -> nn.Sequential:
    """Maximise the Gaussian likelihood of reward and change, given z of D of all lengths."""
    sizes = layer_sizes(seen.shape[-1], outcome.shape[-1], contexts.shape[-1], config.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        linear = [nn.Linear(into, out) for into, out in sizes]
    network = nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])
    generator = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.Adam(network.parameters())
    lengths = torch.tensor(config.lengths)
    for update in range(config.updates):
        task = torch.randint(len(seen), (1024,), generator=generator)
        at = torch.randint(len(lengths), (1024,), generator=generator)
        row = (torch.rand(1024, generator=generator) * lengths[at]).long()  # one of those that z was computed from
        expected, spread = network(torch.cat([seen[task, row], contexts[task, at]], dim=-1)).chunk(2, dim=-1)
        spread = spread.clamp(math.log(SMALLEST_SPREAD), math.log(LARGEST_ERROR))
        loss = functional.gaussian_nll_loss(expected, outcome[task, row], (2.0 * spread).exp())
        rate = warmup_cosine(update, config.updates, warmup=50, highest=3e-3)
        gradient_step(loss, optimiser, update=update, rate=rate, clip=1.0)
    return network


def usual(
    surprise: Surprise, probes: Sequence[Tensor], contexts: Sequence[Tensor], config: CalibrationConfig
) -> dict[str, Floats]:
    """Surprise of in-distribution D: "typical" (mean) and "spread" (standard deviation) [L, S], and "limit" [L].

    The limit of the largest deviation is the largest of the splits, before the slack: if validation tasks differ from
    training tasks, new tasks will too.

    Args:
        surprise: model of a transition's surprise.
        probes: standardised rows of D [T, n, F], of each split.
        contexts: z of their prefixes [T, L, Z].
        config: lengths, fraction of false alarms, slack.
    """
    rows = []
    for at, length in enumerate(config.lengths):
        found = [
            surprise(rows[:, :length].numpy(), z[:, at].numpy()).mean(axis=1)
            for rows, z in zip(probes, contexts, strict=True)
        ]
        typical, spread = _moments(found)
        largest = [np.abs((one - typical) / spread).max(axis=1) for one in found]
        rows.append((typical, spread, config.slack * _quantile(largest, config)))
    return {
        name: np.array(one, dtype=np.float32)
        for name, one in zip(("typical", "spread", "limit"), zip(*rows, strict=True), strict=True)
    }


def usual_beginnings(
    surprise: Surprise,
    learned: Tensor,
    probes: Sequence[Tensor],
    contexts: Sequence[Tensor],
    config: CalibrationConfig,
) -> Beginnings | None:
    """Reference statistics of prefixes of D, with joint limits of 1; None if all lengths are too short.

    Args:
        surprise: model of a transition's surprise.
        learned: contexts [T, L, Z] of the training tasks, the reference for those of other D.
        probes: standardised rows of D [T, n, F], of each split.
        contexts: z of their prefixes [T, L, Z].
        config: lengths, fraction of false alarms, slack.
    """
    lengths = beginning_lengths(config.lengths)
    if not lengths:
        return None
    size, places = surprise.outcome_size, [config.lengths.index(length) for length in lengths]
    usual_z = [usual_contexts(learned[:, place].numpy()) for place in places]
    found = [
        [
            views(surprise(rows[:, :length].numpy(), z[:, place].numpy()), size, z[:, place].numpy(), *usual_z[at])
            for rows, z in zip(probes, contexts, strict=True)
        ]
        for at, (place, length) in enumerate(zip(places, lengths, strict=True))
    ]
    moments = [{view: _moments([split[view] for split in splits]) for view in VIEWS} for splits in found]
    typical, spread = (
        {view: np.array([one[view][which] for one in moments], dtype=np.float32) for view in VIEWS} for which in (0, 1)
    )
    count = len(lengths)
    beginnings = Beginnings(
        lengths,
        mean=np.stack([mean for mean, _ in usual_z]),
        precision=np.stack([precision for _, precision in usual_z]),
        typical=typical,
        spread=spread,
        limit=np.ones((count, len(VIEWS)), dtype=np.float32),
        joint=np.ones(count, dtype=np.float32),
    )
    return replace(
        beginnings,
        limit=np.array(
            [
                config.slack * _quantile([beginnings.deviations(at, split) for split in splits], config)
                for at, splits in enumerate(found)
            ],
            dtype=np.float32,
        ),
    )


def joint_limits(
    check: SelfCheck, probes: Sequence[Tensor], contexts: Sequence[Tensor], config: CalibrationConfig
) -> SelfCheck:
    """Add joint limits for all views of all prefixes, to correct for multiple comparisons.

    Args:
        check: self-check with joint limits of 1.
        probes: standardised rows of D [T, n, F], of each split.
        contexts: z of their prefixes [T, L, Z].
        config: lengths, fraction of false alarms, slack.
    """
    if check.beginnings is None:
        return check
    places = [config.lengths.index(length) for length in check.beginnings.lengths]
    largest = [
        check.largest(rows.numpy(), [z[:, place].numpy() for place in places]).T
        for rows, z in zip(probes, contexts, strict=True)
    ]
    joint = (config.slack * _quantile(largest, config)).astype(np.float32)
    return replace(check, beginnings=replace(check.beginnings, joint=joint))


def _moments(found: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Mean and standard deviation [N], not too small, of the numbers of all D of all splits [T, N]."""
    together = np.concatenate(found)
    return together.mean(axis=0), np.maximum(together.std(axis=0), SMALLEST_SPREAD)


def _quantile(largest: Sequence[NDArray[Any]], config: CalibrationConfig) -> NDArray[np.float64]:
    """Quantile of deviations over the first axis, at the rate of false alarms; the largest of the splits."""
    found: NDArray[np.float64] = np.max(
        [np.quantile(one.astype(np.float64), 1.0 - config.false_alarms, axis=0) for one in largest], axis=0
    )
    return found
