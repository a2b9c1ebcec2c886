"""Ridge regression of task coordinates on statistics of D: the simplest rivals of an encoder, without a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = [
    "STRENGTHS",
    "Ridge",
    "chosen_ridge",
    "means",
    "moments",
    "products",
    "responses",
    "ridges",
    "usual_response",
]

Array = NDArray[np.float64]

STRENGTHS = tuple(float(value) for value in np.logspace(-4, 3, 8))
"""Candidate penalties, in units of the variance of a feature."""

_CONSTANT = 1e-9


def means(rows: Array) -> Array:
    """Mean [T, F] of the rows [T, n, F] of each D."""
    return np.asarray(rows.mean(axis=1))


def moments(rows: Array) -> Array:
    """Means and second moments of the rows [T, n, F] of each D, [T, F + F (F + 1) / 2]."""
    ones = np.ones((*rows.shape[:2], 1))
    extended = np.concatenate([ones, rows], axis=-1)
    found = extended.transpose(0, 2, 1) @ extended / rows.shape[1]
    first, second = np.triu_indices(extended.shape[-1])
    return np.asarray(found[:, first, second][:, 1:])  # the first is the constant 1


def responses(rows: Array, given: slice, outcome: slice, usual: Array, penalty: float = 1.0) -> Array:
    """Coefficients of the outcome's regression on 1 and what is given, of each D by itself, as changes of the usual.

    ``C = (X' X + penalty I)^-1 X' (Y - X usual)``; rows are standardised, so that few of them change little.

    Args:
        rows: [T, n, F].
        given: columns of X, besides 1: observation and action.
        outcome: columns of Y: reward and change of the observation.
        usual: coefficients of all tasks together [1 + G, Y], see `usual_response`.
        penalty: of the change.

    Returns:
        [T, (1 + G) Y].
    """
    inputs = np.concatenate([np.ones((*rows.shape[:2], 1)), rows[..., given]], axis=-1)
    rest = rows[..., outcome] - inputs @ usual
    gram = inputs.transpose(0, 2, 1) @ inputs + penalty * np.eye(inputs.shape[-1])
    found = np.linalg.solve(gram, inputs.transpose(0, 2, 1) @ rest)
    return np.asarray(found.reshape(len(rows), -1))


def usual_response(rows: Array, given: slice, outcome: slice) -> Array:
    """Coefficients [1 + G, Y] of the outcome's regression on 1 and what is given, over all rows [T, n, F]."""
    flat = rows.reshape(-1, rows.shape[-1])
    inputs = np.concatenate([np.ones((len(flat), 1)), flat[:, given]], axis=1)
    return np.asarray(np.linalg.lstsq(inputs, flat[:, outcome], rcond=None)[0])


def products(features: Array) -> Array:
    """Features [T, K] and their products of two."""
    first, second = np.triu_indices(features.shape[1])
    return np.concatenate([features, features[:, first] * features[:, second]], axis=1)


@dataclass(frozen=True, eq=False)
class Ridge:
    """``y = mean + ((x - centre) / scale) B``, with B of ridge regression on standardised features."""

    centre: Array
    scale: Array
    mean: Array
    coefficients: Array
    penalty: float

    def __call__(self, features: Array) -> Array:
        """Predict targets [T, K] from features [T, M]."""
        return np.asarray(self.mean + ((features - self.centre) / self.scale) @ self.coefficients)


def ridges(features: Array, targets: Array, penalties: Sequence[float] = STRENGTHS) -> list[Ridge]:
    """Ridge regressions of targets [T, K] on features [T, M], one for each penalty, in units of T."""
    if len(features) < 2 or len(features) != len(targets):
        raise MetaMapError(
            f"ridge: expected features and targets of 2 tasks or more, got {len(features)}, {len(targets)}"
        )
    centre, scale, mean = features.mean(axis=0), features.std(axis=0), targets.mean(axis=0)
    scale = np.where(scale < _CONSTANT, 1.0, scale)
    inputs = (features - centre) / scale
    values, vectors = np.linalg.eigh(inputs.T @ inputs / len(inputs))
    projected = vectors.T @ (inputs.T @ (targets - mean) / len(inputs))
    return [
        Ridge(centre, scale, mean, vectors @ (projected / (values + penalty)[:, None]), penalty)
        for penalty in penalties
    ]


def chosen_ridge(
    features: Array, targets: Array, others: Array, wanted: Array, penalties: Sequence[float] = STRENGTHS
) -> Ridge:
    """The ridge regression whose error on other tasks is smallest.

    Args:
        features: of the tasks that it is fitted to [T, M].
        targets: [T, K].
        others: features of the tasks that the penalty is chosen on [C, M].
        wanted: their targets [C, K].
        penalties: candidates.

    Raises:
        MetaMapError: fewer than 2 tasks, or features and targets of different numbers of tasks.
    """
    return min(ridges(features, targets, penalties), key=lambda one: float(np.square(one(others) - wanted).mean()))
