"""Has the task changed? Told from D alone: by how well a model of the last task predicts what the probe sees now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.storage import check_arrays
from metamap_envs.errors import MetaMapError

__all__ = ["Shift", "ShiftDetector"]

THRESHOLD = 4.0
"""Chosen on pairs of training tasks by `scripts/measure_shift.py`."""

_RANDOM_FEATURES = 64
_FEATURE_SEED = 20_240_602  # the model is the same in every run
_RIDGE = 1e-2  # per row, in units of standardised inputs
_LEAST_SPREAD = 0.4  # of the log error between rollouts: a handful of rollouts may agree by chance
_LEAST_ERROR = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """A verdict."""

    shifted: bool
    statistic: float
    """How many standard errors the log error is above what rollouts of the same task show, for the worst output."""
    threshold: float
    output: str
    """The worst output: "reward", "observation 3", or "size" where rows do not have the size of the last task's."""


@dataclass(frozen=True)
class _Model:
    """Ridge regression from (observation, action) to (reward, change of observation), and its error on its own task."""

    input_mean: Array
    input_std: Array
    output_mean: Array
    output_std: Array
    coefficients: Array
    """[features, outputs]."""
    log_error: Array
    """Mean over rollouts of the log error (see `_log_error`) on a rollout left out, [outputs]."""
    spread: Array
    """Standard deviation of the same between rollouts."""
    rollouts: Array
    """Number of rollouts, a scalar."""


class ShiftDetector:
    """Compares the probe's rollouts with those of the last task.

    A closed-form model (ridge regression on standardised inputs, their squares and fixed random features) is fitted on
    the R rollouts of the last task. Its error on each rollout, left out of the fit, says how well the task
    predicts itself; a new rollout of the same task should do as well. One statistic per output, as the reward may
    change alone (a goal) or only a joint may (an actuator); the worst one is compared with the threshold.

    Args:
        threshold: in standard errors, positive.

    Raises:
        MetaMapError: a threshold that is not positive.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not threshold > 0:
            raise MetaMapError(f"shift detector: threshold: expected a positive number, got {threshold}")
        self.threshold = threshold
        self._model: _Model | None = None

    def reset(
        self, observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
    ) -> None:
        """Take rollouts as those of the task that holds from now on.

        Args:
            observations: [R, n, O], R at least 2.
            actions: [R, n, A].
            rewards: [R, n].
            next_observations: [R, n, O].

        Raises:
            MetaMapError: fewer than 2 rollouts.
        """
        inputs, outputs = _tables(observations, actions, rewards, next_observations)
        if len(inputs) < 2:
            raise MetaMapError(f"the shift detector needs at least 2 rollouts (probe_repeats), got {len(inputs)}")
        self._model = _fitted(inputs, outputs)

    def is_shift(
        self, observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
    ) -> Shift:
        """Judge new rollouts, of the shapes that `reset` takes; before the first `reset` everything is a shift."""
        inputs, outputs = _tables(observations, actions, rewards, next_observations)
        model = self._model
        if model is None or (inputs.shape[-1], outputs.shape[-1]) != (len(model.input_mean), len(model.output_mean)):
            return Shift(True, np.inf, self.threshold, "size")
        units = (model.input_mean, model.input_std, model.output_mean, model.output_std)
        rows, targets = _standardised(inputs, outputs, units)
        error = _log_error(rows, targets, model.coefficients).mean(axis=0)
        scale = model.spread * np.sqrt(1.0 / len(inputs) + 1.0 / float(model.rollouts))
        statistic = (error - model.log_error) / scale
        worst = int(np.argmax(statistic))
        name = "reward" if worst == 0 else f"observation {worst - 1}"
        return Shift(bool(statistic[worst] > self.threshold), float(statistic[worst]), self.threshold, name)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that it has learnt, by name; nothing before the first `reset`."""
        return {} if self._model is None else {name: np.array(value) for name, value in vars(self._model).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], threshold: float = THRESHOLD) -> ShiftDetector:
        """Inverse of `arrays`.

        Raises:
            MetaMapError: an array is missing, unexpected or of a shape that does not fit.
        """
        detector = cls(threshold)
        if arrays:
            sizes = {key: np.shape(arrays.get(key, np.zeros(0))) for key in ("input_mean", "output_mean")}
            (inputs,), (outputs,) = (size if len(size) == 1 else (0,) for size in sizes.values())
            expected = {
                **dict.fromkeys(("input_mean", "input_std"), (inputs,)),
                **dict.fromkeys(("output_mean", "output_std", "log_error", "spread"), (outputs,)),
                "coefficients": (_width(inputs), outputs),
                "rollouts": (),
            }
            check_arrays(dict(arrays), expected, "shift detector")
            detector._model = _Model(**{name: np.array(arrays[name], dtype=np.float64) for name in expected})
        return detector


def _tables(
    observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
) -> tuple[Array, Array]:
    """Inputs [R, n, O + A] and outputs [R, n, 1 + O] of the model."""
    before, after = np.asarray(observations, dtype=np.float64), np.asarray(next_observations, dtype=np.float64)
    inputs = np.concatenate([before, np.asarray(actions, dtype=np.float64)], axis=-1)
    outputs = np.concatenate([np.asarray(rewards, dtype=np.float64)[..., None], after - before], axis=-1)
    return inputs, outputs


def _fitted(inputs: Array, outputs: Array) -> _Model:
    """Fit on all rollouts, and measure on each what a fit on the others does."""
    flat_in, flat_out = inputs.reshape(-1, inputs.shape[-1]), outputs.reshape(-1, outputs.shape[-1])
    units = (flat_in.mean(axis=0), _spread(flat_in), flat_out.mean(axis=0), _spread(flat_out))
    rows, targets = _standardised(inputs, outputs, units)
    grams, moments = rows.transpose(0, 2, 1) @ rows, rows.transpose(0, 2, 1) @ targets
    counts = np.full(len(rows), rows.shape[1])

    def solve(chosen: NDArray[np.bool_]) -> Array:
        ridge = _RIDGE * counts[chosen].sum() * np.eye(rows.shape[-1])
        solution: Array = np.linalg.solve(grams[chosen].sum(axis=0) + ridge, moments[chosen].sum(axis=0))
        return solution

    indices = np.arange(len(rows))
    errors = np.stack(
        [
            _log_error(rows[left_out, None], targets[left_out, None], solve(indices != left_out))[0]
            for left_out in indices
        ]
    )
    return _Model(
        *units,
        coefficients=solve(indices >= 0),
        log_error=errors.mean(axis=0),
        spread=np.maximum(errors.std(axis=0, ddof=1), _LEAST_SPREAD),
        rollouts=np.array(float(len(rows))),
    )


def _standardised(inputs: Array, outputs: Array, units: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
    """Model's rows [R, n, features] and targets [R, n, outputs]."""
    input_mean, input_std, output_mean, output_std = units
    x = np.clip((inputs - input_mean) / input_std, -10.0, 10.0)  # squares of an outlier would rule the fit
    generator = np.random.default_rng(_FEATURE_SEED)
    size = x.shape[-1]
    phases = x @ generator.normal(size=(size, _RANDOM_FEATURES)) / np.sqrt(size)
    waves = np.cos(phases + generator.uniform(0.0, 2.0 * np.pi, _RANDOM_FEATURES))
    rows = np.concatenate([np.ones((*x.shape[:-1], 1)), x, np.square(x), waves], axis=-1)
    return rows, (outputs - output_mean) / output_std


def _width(size: int) -> int:
    """Number of features of a row of ``size`` inputs."""
    return 1 + 2 * size + _RANDOM_FEATURES


def _log_error(rows: Array, targets: Array, coefficients: Array) -> Array:
    """Twice the log of the mean absolute error of each rollout, [R, outputs]; squares would be those of rare falls."""
    error: Array = 2.0 * np.log(np.abs(targets - rows @ coefficients).mean(axis=1) + _LEAST_ERROR)
    return error


def _spread(rows: Array) -> Array:
    """Standard deviation of each column; 1 where it is constant."""
    std = rows.std(axis=0)
    return np.where(std < 1e-9, 1.0, std)
