"""Models of outcomes, one for each stored task: which of them explains a rollout best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_rl.data.rollouts import Rollouts

__all__ = ["Features", "OutcomeModels"]

Floats = NDArray[np.float64]
Features = Literal["linear", "quadratic"]

_SMALLEST_STD = 1e-3  # of an outcome, in units of its standard deviation over all tasks


@dataclass(frozen=True, eq=False)
class OutcomeModels:
    """Gaussian models of change and reward given observation and action, one for each of T tasks.

    Means are ridge regressions; standard deviations are those of the residuals, shared by all tasks.

    Attributes:
        features: of observation and action: both ("linear"), or their products as well ("quadratic").
        normalizer: of the observations.
        coefficients: [T, F, O + 1].
        scale: units of the outcomes [O + 1].
        std: of the residuals, in these units [O + 1].
    """

    features: Features
    normalizer: ObservationNormalizer
    coefficients: Floats
    scale: Floats
    std: Floats

    @classmethod
    def fit(
        cls, rollouts: Rollouts, normalizer: ObservationNormalizer, features: Features, ridge: float
    ) -> OutcomeModels:
        """Fit the models to the R rollouts of n transitions of each task.

        Args:
            rollouts: of T tasks.
            normalizer: of the family's observations.
            features: see the class.
            ridge: weight of the squared coefficients, for each transition.
        """
        inputs = _inputs(rollouts, normalizer, features)
        outcomes = _outcomes(rollouts)
        scale = outcomes.std(axis=(0, 1)) + 1e-9
        outcomes = outcomes / scale
        penalty = ridge * inputs.shape[1] * np.eye(inputs.shape[2])
        penalty[0, 0] = 1e-9  # not the constant
        gram = np.einsum("tnf,tng->tfg", inputs, inputs) + penalty
        coefficients = np.linalg.solve(gram, np.einsum("tnf,tno->tfo", inputs, outcomes))
        residuals = outcomes - inputs @ coefficients
        std = np.maximum(np.sqrt(np.mean(residuals**2, axis=(0, 1))), _SMALLEST_STD)
        return cls(features, normalizer, coefficients, scale, std)

    def log_likelihood(self, rollouts: Rollouts) -> Floats:
        """Log-likelihood of the rollouts of each of S tasks under each of the T models, up to a constant [S, T]."""
        inputs, outcomes = _inputs(rollouts, self.normalizer, self.features), _outcomes(rollouts) / self.scale
        found = [
            -0.5 * np.sum(((outcome - each @ self.coefficients) / self.std) ** 2, axis=(1, 2))
            for each, outcome in zip(inputs, outcomes, strict=True)
        ]
        return np.stack(found)


def _inputs(rollouts: Rollouts, normalizer: ObservationNormalizer, features: Features) -> Floats:
    """Features of all transitions of each task [T, R n, F]; the first is the constant 1."""
    observations = np.clip(normalizer.apply(rollouts.observations.astype(np.float64)), -5.0, 5.0)
    rows = np.concatenate([observations, rollouts.actions.astype(np.float64)], axis=-1)
    rows = rows.reshape(len(rollouts), -1, rows.shape[-1])
    parts = [np.ones((*rows.shape[:2], 1)), rows]
    if features == "quadratic":
        first, second = np.triu_indices(rows.shape[-1])
        parts.append(rows[..., first] * rows[..., second])
    return np.concatenate(parts, axis=-1)


def _outcomes(rollouts: Rollouts) -> Floats:
    """Change of the observation, and reward [T, R n, O + 1]."""
    change = rollouts.next_observations.astype(np.float64) - rollouts.observations
    found: Floats = np.concatenate([change, rollouts.rewards[..., None].astype(np.float64)], axis=-1)
    return found.reshape(len(rollouts), -1, found.shape[-1])
