"""Mappability: whether the experts of a zoo are a function of the task that a mapper can learn, before one is trained.

Three measures, from cheap to dear. How much of phi* a linear or quadratic function of the task's coordinates explains
on tasks left out. Whether a policy halfway between the experts of neighbouring tasks still works (an interpolation
barrier tells that they lie in different basins). And how far a mapper that is told the true coordinates is off on tasks
that it has not seen, which is what no encoder can make good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import mse_loss

from metamap_agents.experts.expert import Expert
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies, random_returns
from metamap_agents.policy.functional import forward
from metamap_agents.runtime.seeds import EXPERT_STATES
from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import Examples
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import expert_behaviour, task_coordinates
from metamap_rl.training.loop import TrainingData, train, validation_losses

__all__ = ["Barrier", "Explained", "explained_variance", "interpolation_barrier", "neighbours", "told_error"]

Floats = NDArray[np.float64]

RIDGES = tuple(float(value) for value in np.logspace(-3, 3, 13))
"""Strengths of ridge regression that are tried, as multiples of the number of tasks."""


@dataclass(frozen=True)
class Explained:
    """How much of the experts' variance, over all weights, a function of the coordinates explains.

    Attributes:
        fitted: share on the tasks that it was fitted to; 1 is everything.
        left_out: share on each task, fitted without it; below 0 it is worse than the mean of the other experts.
        ridge: strength of the ridge, chosen for the best ``left_out``.
    """

    fitted: float
    left_out: float
    ridge: float


def explained_variance(coordinates: NDArray[np.floating], phi: NDArray[np.floating], degree: int) -> Explained:
    """Ridge regression of weights on coordinates, by powers and products of them up to a degree of 1 or 2.

    Args:
        coordinates: [T, K], of T tasks, at least 3.
        phi: [T, P].
        degree: 1 for a linear function, 2 for a quadratic one.

    Raises:
        MetaMapError: too few tasks, all experts equal, or another degree.
    """
    if len(phi) < 3 or degree not in (1, 2):
        raise MetaMapError(f"explained variance: expected 3 tasks or more and degree 1 or 2, got {len(phi)}, {degree}")
    count = len(phi)
    inputs = _powers(_standardised(np.asarray(coordinates, dtype=np.float64)), degree)
    weights = phi.astype(np.float64) - phi.mean(axis=0, dtype=np.float64)
    total = np.square(weights).sum()
    if not total > 0:
        raise MetaMapError("explained variance: all experts have the same weights")
    found = []
    gram = inputs @ inputs.T
    for ridge in RIDGES:
        # Of the fitted values: each is this matrix times the weights, 1 / T of it from the mean.
        hat = gram @ np.linalg.inv(gram + ridge * count * np.eye(count))
        residual = weights - hat @ weights
        left_out = residual / (1 - np.diag(hat) - 1 / count)[:, None]
        of_mean = weights * count / (count - 1)  # distance to the mean of the others
        shares = (np.square(residual).sum() / total, np.square(left_out).sum() / np.square(of_mean).sum())
        found.append(Explained(1 - shares[0], 1 - shares[1], ridge))
    return max(found, key=lambda entry: entry.left_out)


def _powers(inputs: Floats, degree: int) -> Floats:
    """Columns, and for degree 2 the products of any two of them; standardised, those that are constant left out."""
    columns = [inputs]
    if degree == 2:
        first, second = np.triu_indices(inputs.shape[1])
        columns.append(inputs[:, first] * inputs[:, second])
    return _standardised(np.concatenate(columns, axis=1))


def _standardised(columns: Floats) -> Floats:
    spread = columns.std(axis=0)
    kept = columns[:, spread > 1e-9]
    standardised: Floats = (kept - kept.mean(axis=0)) / kept.std(axis=0)
    return standardised


def neighbours(coordinates: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Each task with the one nearest to it in standardised coordinates [T, K]; each pair once, T at least 2."""
    if len(coordinates) < 2:
        raise MetaMapError("neighbours: expected 2 tasks or more")
    points = _standardised(np.asarray(coordinates, dtype=np.float64))
    distances = np.square(points[:, None] - points[None]).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    return sorted({(min(i, int(j)), max(i, int(j))) for i, j in enumerate(nearest)})


@dataclass(frozen=True)
class Barrier:
    """Returns on pairs of neighbouring tasks; each field [M], means over both tasks of a pair and over episodes.

    Attributes:
        pairs: indices of the tasks.
        random: of random actions.
        own: each task's own expert.
        crossed: the other task's expert.
        middle: the mean of the two experts' weights.
    """

    pairs: list[tuple[int, int]]
    random: Floats
    own: Floats
    crossed: Floats
    middle: Floats

    @property
    def barrier(self) -> Floats:
        """Share of the way from random actions to the experts that the middle loses, [M]; 0 is no barrier."""
        share: Floats = (self.own - self.middle) / (self.own - self.random)
        return share

    @property
    def crossed_loss(self) -> Floats:
        """The same for the other task's expert: how different the tasks are, [M]."""
        share: Floats = (self.own - self.crossed) / (self.own - self.random)
        return share


def interpolation_barrier(
    experts: Sequence[Expert], base: BasePolicy, *, episodes: int = 10, num_threads: int = 0
) -> Barrier:
    """Run the policy halfway between the experts of neighbouring tasks on both tasks.

    Args:
        experts: of 2 tasks or more of one family.
        base: gives the network's shape and the normaliser.
        episodes: for each task and policy.
        num_threads: threads of the simulator; 0 uses all cores.
    """
    tasks = [expert.task for expert in experts]
    pairs = neighbours(task_coordinates(tasks))
    phi = np.stack([expert.phi for expert in experts])
    here = np.array([index for pair in pairs for index in pair])
    there = np.array([index for pair in pairs for index in pair[::-1]])

    def means(phis: NDArray[np.float32]) -> Floats:
        found = evaluate_policies(
            [tasks[index] for index in here],
            base.policies(phis),
            episodes=episodes,
            num_threads=num_threads,
        )
        return _by_pair(found.returns.mean(axis=1))

    return Barrier(
        pairs=pairs,
        random=_by_pair(random_returns([tasks[index] for index in here], episodes=episodes).mean(axis=1)),
        own=means(phi[here]),
        crossed=means(phi[there]),
        middle=means((phi[here] + phi[there]) / 2),
    )


def _by_pair(values: Floats) -> Floats:
    """Mean of each two."""
    mean: Floats = values.reshape(-1, 2).mean(axis=1)
    return mean


def told_error(
    training: Sequence[Expert],
    held_out: Sequence[Expert],
    base: BasePolicy,
    *,
    config: TrainConfig | None = None,
    mapper_config: MapperConfig | None = None,
    states: int = 1000,
    num_threads: int = 0,
) -> dict[str, float]:
    """Train a mapper that is told the true coordinates, and measure its behaviour error, over that of phi_0.

    Its checkpoint is the last one: held-out tasks are only measured on.

    Returns:
        "training" and "held_out": mean squared error of actions on the experts' states as a share of the base
        policy's; 0 is perfect, 1 no better than phi_0.
    """
    sets = {"training": training, "held_out": held_out}
    told = {name: _told(experts, base, states, num_threads) for name, experts in sets.items()}
    family = training[0].task.family
    mapper = train(TrainingData(told["training"], base, family), config=config, mapper_config=mapper_config)
    return {
        name: validation_losses(mapper, examples, (1,))[1] / _base_error(base, examples)
        for name, examples in told.items()
    }


def _base_error(base: BasePolicy, examples: Examples) -> float:
    outputs = forward(base.spec, torch.tensor(base.phi), examples.inputs)
    return float(mse_loss(outputs, examples.targets))


def _told(experts: Sequence[Expert], base: BasePolicy, states: int, num_threads: int) -> Examples:
    """Examples with coordinates in place of D: one row for each task."""
    tasks, phi = [expert.task for expert in experts], np.stack([expert.phi for expert in experts])
    visited, actions = expert_behaviour(
        tasks, base, phi, states=states, generator=np.random.default_rng(0), seed=EXPERT_STATES, num_threads=num_threads
    )
    return Examples(
        features=torch.from_numpy(task_coordinates(tasks))[:, None, None, :],
        phi=torch.from_numpy(phi),
        inputs=torch.from_numpy(base.normalizer.apply(visited).astype(np.float32)),
        targets=torch.from_numpy(actions),
    )
