"""Reptile (Nichol et al. 2018): moves the initial weights towards the weights adapted to a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.common.config import Config, Positive, PositiveNumber
from metamap_rl.evaluation.baselines.adaptation import TASK_LOSSES, descend
from metamap_rl.evaluation.baselines.maml import Draw, OnIteration

__all__ = ["ReptileConfig", "reptile_update", "train_reptile"]


@dataclass(frozen=True)
class ReptileConfig(Config):
    """Settings of Reptile; defaults as in OpenAI's demonstration on sinusoids."""

    called: ClassVar[str] = "Reptile config"

    iterations: Positive = 30_000
    """Outer updates."""
    tasks: Positive = 1
    """Tasks in an outer update."""
    inner_rate: PositiveNumber = 0.02
    """Step size of SGD on a task."""
    minibatch: Positive = 10
    """Minibatch size of SGD in points."""
    outer_rate: Annotated[float, Gt(0), Le(1)] = 0.1
    """Initial step size of the outer update, as a fraction of the difference; linear decay to 0."""
    loss: str = "squared-error"
    """Name in `metamap_rl.evaluation.baselines.adaptation.TASK_LOSSES`."""
    seed: int = 0
    """Seed of the tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", read_seed(self.seed, "Reptile config: seed"))


def reptile_update(phi: Tensor, adapted: Tensor, share: float) -> Tensor:
    """Return ``phi + share * (mean over tasks of adapted - phi)`` for R runs: [R, P] and [R, B, P] to [R, P]."""
    return phi + share * (adapted.mean(dim=1) - phi)


def train_reptile(
    spec: PolicySpec, start: Tensor, draw: Draw, config: ReptileConfig, on_iteration: OnIteration | None = None
) -> Tensor:
    """Train R independent runs in parallel; see `maml.train_maml` for arguments and result.

    SGD runs for one epoch over the support points of a task, in random minibatches; query points are not used.
    """
    if start.ndim != 2 or start.shape[1] != spec.size:
        raise MetaMapError(f"start: expected weights [R, {spec.size}], got {tuple(start.shape)}")
    generator = torch.Generator().manual_seed(config.seed)
    phi, runs = start.detach().clone(), len(start)
    for iteration in range(config.iterations):
        episodes = draw(generator, runs * config.tasks)
        adapted = phi.repeat_interleave(config.tasks, dim=0)
        order = torch.randperm(episodes.support_inputs.shape[1], generator=generator)
        for points in torch.split(order, config.minibatch):
            adapted = descend(
                spec,
                adapted,
                episodes.support_inputs[:, points],
                episodes.support_targets[:, points],
                loss=TASK_LOSSES[config.loss],
                rate=config.inner_rate,
                steps=1,
            )
        share = config.outer_rate * (1 - iteration / config.iterations)
        phi = reptile_update(phi, adapted.view(runs, config.tasks, -1), share)
        if on_iteration is not None:
            on_iteration(iteration + 1, phi)
    return phi
