"""Models of outcomes, one for each stored task: which of them explains a rollout best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_rl.data.rollouts import Rollouts

__all__ = ["Features", "OutcomeModels"]

Floats = NDArray[np.float64]
Features = Literal["linear", "quadratic"]

_COMMON_RIDGE = 1e-9  # of the trace: only against singular features
_SMALLEST_ERROR = 1e-3  # in units of the standard deviation over all tasks
_DEGREES = 4
_MEDIAN = float(t.ppf(0.75, _DEGREES))  # of absolute errors of scale 1


@dataclass(frozen=True, eq=False)
class OutcomeModels:
    """Models of change and reward given observation and action, one for each of T tasks.

    Means are ridge regressions around that of all tasks together, so that outcomes in which tasks do not differ tell
    nothing; errors follow Student's t with 4 degrees of freedom, since contacts make outliers, and their scale is that
    of the errors on held-out rollouts, shared by all tasks.

    Attributes:
        features: of observation and action: both ("linear"), or their products as well ("quadratic").
        normalizer: of the observations.
        coefficients: [T, F, O + 1].
        scale: units of the outcomes [O + 1].
        error: scale of the errors, in these units [O + 1].
    """

    features: Features
    normalizer: ObservationNormalizer
    coefficients: Floats
    scale: Floats
    error: Floats

    @classmethod
    def fit(
        cls, rollouts: Rollouts, normalizer: ObservationNormalizer, features: Features, ridge: float
    ) -> OutcomeModels:
        """Fit the models to the R rollouts of n transitions of each task.

        Args:
            rollouts: of T tasks.
            normalizer: of the family's observations.
            features: see the class.
            ridge: weight of the squared differences from the coefficients of all tasks, for each transition.
        """
        inputs = _inputs(rollouts, normalizer, features)
        outcomes = _outcomes(rollouts)
        scale = outcomes.std(axis=(0, 1)) + 1e-9
        outcomes = outcomes / scale
        half = inputs.shape[1] // 2
        held_out = outcomes[:, half:] - inputs[:, half:] @ _fitted(inputs[:, :half], outcomes[:, :half], ridge)
        error = np.maximum(np.median(np.abs(held_out), axis=(0, 1)) / _MEDIAN, _SMALLEST_ERROR)
        return cls(features, normalizer, _fitted(inputs, outcomes, ridge), scale, error)

    def log_likelihood(self, rollouts: Rollouts) -> Floats:
        """Log-likelihood of the rollouts of each of S tasks under each of the T models, up to a constant [S, T]."""
        inputs, outcomes = _inputs(rollouts, self.normalizer, self.features), _outcomes(rollouts) / self.scale
        found = [
            np.sum(t.logpdf((outcome - each @ self.coefficients) / self.error, _DEGREES), axis=(1, 2))
            for each, outcome in zip(inputs, outcomes, strict=True)
        ]
        return np.stack(found)


def _fitted(inputs: Floats, outcomes: Floats, ridge: float) -> Floats:
    """Coefficients of each task [T, F, O + 1]."""
    count, size = inputs.shape[1:]
    grams, products = np.einsum("tnf,tng->tfg", inputs, inputs), np.einsum("tnf,tno->tfo", inputs, outcomes)
    common = np.linalg.solve(grams.sum(axis=0) + _COMMON_RIDGE * grams[0].trace() * np.eye(size), products.sum(axis=0))
    differences: Floats = np.linalg.solve(grams + ridge * count * np.eye(size), products - grams @ common)
    return common + differences


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
