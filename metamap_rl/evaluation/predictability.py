"""Predictability: whether a mapper can learn the experts of a zoo as a function of the task, measured before training.

Three measures, in order of cost: variance of phi* on left-out tasks that a linear or quadratic function of the task's
coordinates explains; return of the policy halfway between the experts of neighbouring tasks (an interpolation barrier
means different basins); and error of a privileged mapper, given the true coordinates, on unseen tasks, which no encoder
can compensate.
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
from metamap_rl.evaluation.regression import products
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import expert_behaviour, task_coordinates
from metamap_rl.training.loop import TrainingData, train, validation_losses

__all__ = [
    "Barrier",
    "ExplainedVariance",
    "explained_variance",
    "interpolation_barrier",
    "neighbours",
    "privileged_error",
]

Floats = NDArray[np.float64]

RIDGES = tuple(float(value) for value in np.logspace(-3, 3, 13))
"""Candidate strengths of ridge regression, as multiples of the number of tasks."""


@dataclass(frozen=True)
class ExplainedVariance:
    """Variance of the experts, over all weights, explained by a function of the coordinates.

    Attributes:
        fitted: fraction on the tasks it was fitted to; 1 is all variance.
        left_out: fraction on each task, fitted without it; negative if worse than the mean of the other experts.
        ridge: ridge strength with the best ``left_out``.
    """

    fitted: float
    left_out: float
    ridge: float


def explained_variance(coordinates: NDArray[np.floating], phi: NDArray[np.floating], degree: int) -> ExplainedVariance:
    """Ridge regression of weights on coordinates, with polynomial features of degree 1 or 2.

    Args:
        coordinates: coordinates of T tasks [T, K], T at least 3.
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
        # Hat matrix: fitted values are this matrix times the weights, including 1 / T for the mean.
        hat = gram @ np.linalg.inv(gram + ridge * count * np.eye(count))
        residual = weights - hat @ weights
        left_out = residual / (1 - np.diag(hat) - 1 / count)[:, None]
        of_mean = weights * count / (count - 1)  # distance to the mean of the others
        shares = (np.square(residual).sum() / total, np.square(left_out).sum() / np.square(of_mean).sum())
        found.append(ExplainedVariance(1 - shares[0], 1 - shares[1], ridge))
    return max(found, key=lambda entry: entry.left_out)


def _powers(inputs: Floats, degree: int) -> Floats:
    """Columns, and for degree 2 their pairwise products; standardised, without constant ones."""
    return _standardised(products(inputs) if degree == 2 else inputs)


def _standardised(columns: Floats) -> Floats:
    spread = columns.std(axis=0)
    kept = columns[:, spread > 1e-9]
    standardised: Floats = (kept - kept.mean(axis=0)) / kept.std(axis=0)
    return standardised


def neighbours(coordinates: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Distinct pairs of each task and its nearest neighbour in standardised coordinates [T, K], T at least 2."""
    if len(coordinates) < 2:
        raise MetaMapError("neighbours: expected 2 tasks or more")
    points = _standardised(np.asarray(coordinates, dtype=np.float64))
    distances = np.square(points[:, None] - points[None]).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    return sorted({(min(i, int(j)), max(i, int(j))) for i, j in enumerate(nearest)})


@dataclass(frozen=True)
class Barrier:
    """Returns on M pairs of neighbouring tasks; each field [M] is a mean over both tasks of a pair and episodes.

    Attributes:
        pairs: indices of the tasks.
        random: returns of random actions.
        own: returns of each task's expert.
        crossed: returns of the other task's expert.
        middle: returns of the mean of the two experts' weights.
    """

    pairs: list[tuple[int, int]]
    random: Floats
    own: Floats
    crossed: Floats
    middle: Floats

    @property
    def barrier(self) -> Floats:
        """Loss of return at the middle / gap from random actions to the experts [M]; 0 is no barrier."""
        share: Floats = (self.own - self.middle) / (self.own - self.random)
        return share

    @property
    def crossed_loss(self) -> Floats:
        """The same for the other task's expert [M], which measures the difference of the tasks."""
        share: Floats = (self.own - self.crossed) / (self.own - self.random)
        return share


def interpolation_barrier(
    experts: Sequence[Expert], base: BasePolicy, *, episodes: int = 10, num_threads: int = 0
) -> Barrier:
    """Evaluate the policy halfway between the experts of neighbouring tasks on both tasks.

    Args:
        experts: experts of at least 2 tasks of one family.
        base: base policy, with architecture and normaliser.
        episodes: episodes per task and policy.
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
    """Mean of each pair."""
    mean: Floats = values.reshape(-1, 2).mean(axis=1)
    return mean


def privileged_error(
    training: Sequence[Expert],
    held_out: Sequence[Expert],
    base: BasePolicy,
    *,
    config: TrainConfig | None = None,
    mapper_config: MapperConfig | None = None,
    states: int = 1000,
    num_threads: int = 0,
) -> dict[str, float]:
    """Train a privileged mapper, given the true coordinates, and measure its behaviour error relative to phi_0's.

    The last checkpoint is used, without model selection on held-out tasks.

    Returns:
        "training" and "held_out": mean squared error of actions on the experts' states divided by the base policy's; 0
        is perfect, 1 equals phi_0.
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
    """Examples with coordinates in place of D: one row per task."""
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
