"""Detection of task changes from D: compares predictions by models of the last and the current task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError

__all__ = ["Shift", "ShiftDetector"]

THRESHOLD = 2.25
"""Chosen on pairs of training tasks (docs/measurements.md)."""

_RANDOM_FEATURES = 64
_FEATURE_SEED = 20_240_602  # same random features in every run
_RIDGE = 1e-3  # per row, in units of standardised inputs
_LEAST_SPREAD = 0.3  # minimum standard deviation of the log error between rollouts: a few rollouts may agree by chance
_LEAST_ERROR = 1e-5  # minimum error, in standard deviations of the output

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """Result of the detector."""

    shifted: bool
    statistic: float
    """Difference of log errors between the other task's model and the rollout's own, in standard errors, for the output
    with the largest difference. Infinite without a last task, or if sizes differ.
    """
    threshold: float
    output: str
    """That output: "reward", "observation 3", or "size" if there is nothing to compare."""


class ShiftDetector:
    """Compares the probe's rollouts with those of the last task.

    Each rollout, old or new, is predicted twice: by a model of the other task's rollouts, and by a model of the other
    rollouts of its own task. If the task is the same, both errors are similar, also on a rare rollout that neither
    predicts (the robot falls over); if it changed, the former is larger on all of them. The statistic of an output is
    the mean over rollouts of the difference of their log errors, in standard errors. Outputs (reward, change of each
    observation) are separate because a goal changes the reward alone, and an actuator perhaps one joint. The largest
    statistic is compared with the threshold.

    Models are ridge regressions in closed form, float64, on standardised inputs, their squares and fixed random
    features. Inputs of the reward's model are (o, a, o'), of the others (o, a).

    Args:
        threshold: in standard errors, positive.

    Raises:
        MetaMapError: a threshold that is not positive.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not threshold > 0:
            raise MetaMapError(f"shift detector: threshold: expected a positive number, got {threshold}")
        self.threshold = threshold
        self._last: _Rollouts | None = None

    def reset(
        self, observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
    ) -> None:
        """Set the rollouts of the current task.

        Args:
            observations: [R, n, O], R at least 2.
            actions: [R, n, A].
            rewards: [R, n].
            next_observations: [R, n, O].

        Raises:
            MetaMapError: fewer than 2 rollouts, inconsistent shapes, NaN or infinity.
        """
        self._last = _Rollouts.of(observations, actions, rewards, next_observations)

    def is_shift(
        self, observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
    ) -> Shift:
        """Test new rollouts; before the first `reset` the result is a shift.

        Raises:
            MetaMapError: as for `reset`.
        """
        new = _Rollouts.of(observations, actions, rewards, next_observations)
        if self._last is None or self._last.sizes != new.sizes:
            return Shift(True, np.inf, self.threshold, "size")
        worse = np.concatenate(
            [_worse_by_the_other(last, fresh) for last, fresh in zip(self._last.tables(), new.tables(), strict=True)],
            axis=-1,
        )
        error = np.maximum(worse.std(axis=0, ddof=1), _LEAST_SPREAD) / np.sqrt(len(worse))
        statistic = worse.mean(axis=0) / error
        most = int(np.argmax(statistic))
        name = "reward" if most == 0 else f"observation {most - 1}"
        return Shift(bool(statistic[most] > self.threshold), float(statistic[most]), self.threshold, name)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its state by name: the last task's rollouts, float32; empty before the first `reset`."""
        return {} if self._last is None else dict(vars(self._last))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], threshold: float = THRESHOLD) -> ShiftDetector:
        """Inverse of `arrays`.

        Raises:
            MetaMapError: an array is missing, unexpected or invalid for `reset`.
        """
        detector = cls(threshold)
        if arrays:
            known = {name: np.shape(arrays.get(name, ())) for name in _Rollouts.__dataclass_fields__}
            check_arrays(dict(arrays), known, "shift detector")
            detector.reset(**arrays)
        return detector


@dataclass(frozen=True)
class _Rollouts:
    """R rollouts of n transitions, float32."""

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]

    @classmethod
    def of(cls, *given: ArrayLike) -> _Rollouts:
        """Validate and copy arrays."""
        arrays = [np.array(array, dtype=np.float32) for array in given]
        first, shape = arrays[0].shape, (*arrays[0].shape[:2],)
        if len(first) != 3 or [array.shape for array in arrays[2:]] != [shape, first] or arrays[1].shape[:-1] != shape:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise MetaMapError(f"the shift detector expected [R, n, O], [R, n, A], [R, n] and [R, n, O], got {shapes}")
        if first[0] < 2 or not first[1]:
            raise MetaMapError(
                f"the shift detector needs at least 2 rollouts (probe_repeats) that are not empty, got {shape}"
            )
        if not all(np.isfinite(array).all() for array in arrays):
            raise MetaMapError("the shift detector expected finite numbers, the rollouts hold NaN or infinity")
        return cls(*arrays)

    @property
    def sizes(self) -> tuple[int, int]:
        """Sizes of observations and actions."""
        return self.observations.shape[-1], self.actions.shape[-1]

    def tables(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Inputs and outputs [R, n, ...] of the model of the reward and of the model of the observations' changes."""
        before, after, actions = (
            array.astype(np.float64) for array in (self.observations, self.next_observations, self.actions)
        )
        rewards = self.rewards.astype(np.float64)[..., None]
        dynamics = np.concatenate([before, actions], axis=-1)
        return (np.concatenate([dynamics, after], axis=-1), rewards), (dynamics, after - before)


def _worse_by_the_other(last: tuple[Array, Array], new: tuple[Array, Array]) -> Array:
    """Log error of the other task's model minus that of the own task's model, on each rollout [2 R, outputs]."""
    units = _units(last[0]), _units(last[1])
    sides = [_Normal.of(_features(_standardised(x, units[0])), _standardised(y, units[1])) for x, y in (last, new)]
    own = [_log_errors(side, side.solve_left_out()) for side in sides]
    other = [_log_errors(side, model.solve()) for side, model in zip(sides, reversed(sides), strict=True)]
    return np.concatenate(other) - np.concatenate(own)


@dataclass(frozen=True)
class _Normal:
    """Normal equations of R rollouts."""

    rows: Array
    """[R, n, features]."""
    targets: Array
    """[R, n, outputs]."""
    grams: Array
    """[R, features, features], with the ridge."""
    moments: Array
    """[R, features, outputs]."""

    @classmethod
    def of(cls, rows: Array, targets: Array) -> _Normal:
        turned = rows.transpose(0, 2, 1)
        return cls(rows, targets, turned @ rows + _RIDGE * rows.shape[1] * np.eye(rows.shape[-1]), turned @ targets)

    def solve(self) -> Array:
        """Coefficients of all rollouts [1, features, outputs]."""
        return np.linalg.solve(self.grams.sum(axis=0), self.moments.sum(axis=0))[None]

    def solve_left_out(self) -> Array:
        """For each rollout, coefficients of all others [R, features, outputs]."""
        solved: Array = np.linalg.solve(self.grams.sum(axis=0) - self.grams, self.moments.sum(axis=0) - self.moments)
        return solved


def _log_errors(side: _Normal, coefficients: Array) -> Array:
    """Log of the median absolute error of each rollout [R, outputs]; a mean would be dominated by a few contacts."""
    return np.log(np.median(np.abs(side.targets - side.rows @ coefficients), axis=1) + _LEAST_ERROR)


def _units(table: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each column of [R, n, columns]; 1 where it is constant."""
    rows = table.reshape(-1, table.shape[-1])
    std = rows.std(axis=0)
    return rows.mean(axis=0), np.where(std < 1e-9, 1.0, std)


def _standardised(table: Array, units: tuple[Array, Array]) -> Array:
    return (table - units[0]) / units[1]


def _features(inputs: Array) -> Array:
    """Rows of a model [R, n, features] for standardised inputs [R, n, I]: 1, inputs, squares and random features."""
    x = np.clip(inputs, -10.0, 10.0)  # squares of outliers would dominate the fit
    generator, size = np.random.default_rng(_FEATURE_SEED), x.shape[-1]
    phases = x @ generator.normal(size=(size, _RANDOM_FEATURES)) / np.sqrt(size)
    waves = np.cos(phases + generator.uniform(0.0, 2.0 * np.pi, _RANDOM_FEATURES))
    return np.concatenate([np.ones((*x.shape[:-1], 1)), x, np.square(x), waves], axis=-1)
