"""Model-agnostic meta-learning (Finn et al. 2017), with second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.evaluation.baselines.adaptation import TASK_LOSSES, descend
from metamap_rl.evaluation.baselines.episodes import FewShotBatch

__all__ = ["Draw", "MAMLConfig", "OnIteration", "maml_loss", "train_maml"]

Draw = Callable[[torch.Generator, int], FewShotBatch]
"""Draws a number of new training tasks."""

OnIteration = Callable[[int, Tensor], None]
"""Called after every iteration with the number of iterations done and the weights [R, P] of all runs."""


@dataclass(frozen=True)
class MAMLConfig:
    """Settings of MAML; defaults as in the paper for sinusoids."""

    iterations: int = 70_000
    """Meta-updates."""
    tasks: int = 25
    """Tasks in a meta-batch."""
    inner_rate: float = 0.01
    """Step size of adaptation."""
    inner_steps: int = 1
    """Gradient steps of adaptation in training."""
    rate: float = 1e-3
    """Learning rate of Adam, the outer optimiser."""
    loss: str = "squared-error"
    """Name in `metamap_rl.evaluation.baselines.adaptation.TASK_LOSSES`, inside and outside."""
    seed: int = 0
    """Seed of the tasks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "MAML config: seed"))


def maml_loss(spec: PolicySpec, phi: Tensor, episodes: FewShotBatch, config: MAMLConfig) -> Tensor:
    """Return the loss after adaptation of each task [B], differentiable in the initial weights.

    Args:
        spec: shape of the network.
        phi: initial weights of each task [B, P], usually one expanded vector.
        episodes: B tasks.
        config: inner steps, rate and loss.
    """
    loss = TASK_LOSSES[config.loss]
    adapted = descend(
        spec,
        phi,
        episodes.support_inputs,
        episodes.support_targets,
        loss=loss,
        rate=config.inner_rate,
        steps=config.inner_steps,
        create_graph=True,
    )
    return loss(forward(spec, adapted, episodes.inputs), episodes.targets)


def train_maml(
    spec: PolicySpec, start: Tensor, draw: Draw, config: MAMLConfig, on_iteration: OnIteration | None = None
) -> Tensor:
    """Train R independent runs in parallel, each on its own tasks.

    Args:
        spec: shape of the network.
        start: random weights of R networks [R, P]; Adam is elementwise, so runs are independent.
        draw: draws tasks.
        config: settings.
        on_iteration: called after every iteration.

    Returns:
        [R, P].
    """
    if start.ndim != 2 or start.shape[1] != spec.size:
        raise MetaMapError(f"start: expected weights [R, {spec.size}], got {tuple(start.shape)}")
    generator = torch.Generator().manual_seed(config.seed)
    phi = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([phi], lr=config.rate, fused=True)
    for iteration in range(config.iterations):
        episodes = draw(generator, len(start) * config.tasks)
        losses = maml_loss(spec, phi.repeat_interleave(config.tasks, dim=0), episodes, config)
        optimiser.zero_grad(set_to_none=True)
        (losses.sum() / config.tasks).backward()  # type: ignore[no-untyped-call]  # annotated only partly in torch
        optimiser.step()
        if on_iteration is not None:
            on_iteration(iteration + 1, phi.detach())
    return phi.detach()
