"""Families of functions as examples for the training loop: fixed sets of tasks, and fresh tasks for every batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.seeds import read_seed
from metamap_rl.data.examples import Batch, Examples
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.base import FunctionFamily

__all__ = ["FreshTasks", "as_examples", "common_start", "initial_weights"]

_UNITS_TASKS = 1024
"""Number of tasks from which the scales of features are computed."""


def initial_weights(spec: PolicySpec, generator: torch.Generator, *, count: int | None = None) -> Tensor:
    """Draw networks with the initialisation of PyTorch's ``nn.Linear``: U[-1, 1] / sqrt(inputs).

    Returns:
        [P], or [count, P] if a count is given.
    """
    lead = () if count is None else (count,)
    parts: dict[str, Tensor] = {}
    bound = 1.0
    for layer in spec.layers:
        if len(layer.shape) == 2:  # a bias follows its matrix and shares its bound
            bound = layer.shape[1] ** -0.5
        parts[layer.name] = bound * (2 * torch.rand(*lead, *layer.shape, generator=generator) - 1)
    return spec.join(parts)


def common_start(family: FunctionFamily, seed: int = 0) -> BasePolicy:
    """Return phi_0, a random network, the centre of all generated ones. Inputs are not normalised."""
    seed = read_seed(seed)
    spec = family.spec
    phi = initial_weights(spec, torch.Generator().manual_seed(seed)).numpy()
    return BasePolicy(
        spec, phi, ObservationNormalizer.identity(spec.observation_size), np.zeros(spec.action_size, np.float32)
    )


def as_examples(family: FunctionFamily, episodes: FewShotBatch, base: BasePolicy) -> Examples:
    """Return fixed tasks as examples with one D each; see :class:`FreshTasks` for phi*."""
    return Examples(
        family.features(episodes)[:, None], _targets(family, episodes, base), episodes.inputs, episodes.targets
    )


def _targets(family: FunctionFamily, episodes: FewShotBatch, base: BasePolicy) -> Tensor:
    """Return phi* [B, P], or phi_0 for a family without a closed form."""
    solved = family.solve(episodes)
    return torch.tensor(base.phi).expand(len(episodes), -1) if solved is None else solved


@dataclass(frozen=True, eq=False, kw_only=True)
class _Fresh(Examples):
    """Examples that draw new tasks for every batch; the stored tasks set the scales and shapes."""

    family: FunctionFamily
    base: BasePolicy

    def sample(self, generator: torch.Generator, *, tasks: int, length: int, states: int, from_start: float) -> Batch:
        """Draw new tasks with D of ``length`` points; ``from_start`` is ignored."""
        episodes = self.family.draw(generator, tasks=tasks, points=length, queries=states, split="train")
        phi = _targets(self.family, episodes, self.base)
        return Batch(self.family.features(episodes), phi, episodes.inputs, episodes.targets)


@dataclass(frozen=True)
class FreshTasks:
    """A source of training tasks (`metamap_rl.data.examples.ExampleSource`) that draws new ones for every batch.

    phi* is the family's closed form. A family without one can be learned by the behaviour loss alone: its phi* is
    phi_0, an unused placeholder. "training_tasks" in a mapper's record counts only the tasks that the scales were
    computed from.
    """

    family: FunctionFamily
    points: int
    """Largest number of points in a D."""
    seed: int = 0
    """Seed of the tasks from which the scales are computed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed))

    def examples(self, base: BasePolicy) -> Examples:
        """Return the examples; ``base`` is phi_0."""
        generator = torch.Generator().manual_seed(self.seed)
        episodes = self.family.draw(
            generator, tasks=_UNITS_TASKS, points=self.points, queries=self.points, split="train"
        )
        held = as_examples(self.family, episodes, base)
        return _Fresh(held.features, held.phi, held.inputs, held.targets, family=self.family, base=base)
