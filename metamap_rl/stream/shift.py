"""Has the task changed? Told from D alone: by whether a model of the last task predicts what the probe sees now."""

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
_FEATURE_SEED = 20_240_602  # the model is the same in every run
_RIDGE = 1e-3  # per row, in units of standardised inputs
_LEAST_SPREAD = 0.3  # of the log error between rollouts: a handful of rollouts may agree by chance
_LEAST_ERROR = 1e-5  # in standard deviations of the output: what is predicted better than this is predicted exactly

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """A verdict."""

    shifted: bool
    statistic: float
    """How many standard errors the other task's model is worse than the rollout's own, for the output that tells most.

    Infinite where there is no last task, or rows have not its size."""
    threshold: float
    output: str
    """That output: "reward", "observation 3", or "size" where there is nothing to compare with."""


class ShiftDetector:
    """Compares the probe's rollouts with those of the last task, both ways.

    Each rollout, old or new, is predicted twice: by a model of the other task's rollouts, and by a model of the other
    rollouts of its own task. If the task is the same, both do as well, also on the rare rollout in which the robot
    falls over and which neither predicts; if it changed, the former is worse on all of them. The statistic of an
    output is the mean over rollouts of the difference of their log errors, in standard errors; the outputs
    (reward, change of each observation) are told apart because a goal changes the reward alone, and an actuator perhaps
    one joint. The one that tells most is compared with the threshold.

    Models are ridge regressions in closed form, float64, on standardised inputs, their squares and fixed random
    features. The reward's inputs are (o, a, o'), so that it is known where the robot went; the others' (o, a).

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
        """Take rollouts as those of the task that holds from now on.

        Args:
            observations: [R, n, O], R at least 2.
            actions: [R, n, A].
            rewards: [R, n].
            next_observations: [R, n, O].

        Raises:
            MetaMapError: fewer than 2 rollouts, shapes that do not fit, NaN or infinity.
        """
        self._last = _Rollouts.of(observations, actions, rewards, next_observations)

    def is_shift(
        self, observations: ArrayLike, actions: ArrayLike, rewards: ArrayLike, next_observations: ArrayLike
    ) -> Shift:
        """Judge new rollouts; before the first `reset` everything is a shift.

        Raises:
            MetaMapError: as `reset`, which takes the same arrays.
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
        """Everything that it keeps, by name: the last task's rollouts, float32; nothing before the first `reset`."""
        return {} if self._last is None else dict(vars(self._last))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], threshold: float = THRESHOLD) -> ShiftDetector:
        """Inverse of `arrays`.

        Raises:
            MetaMapError: an array is missing, unexpected, or not as `reset` takes it.
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
        """Check and copy."""
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
        """Numbers of observations and of actions."""
        return self.observations.shape[-1], self.actions.shape[-1]

    def tables(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Inputs and outputs [R, n, ...] of the reward's model and of that of the observations' changes."""
        before, after, actions = (
            array.astype(np.float64) for array in (self.observations, self.next_observations, self.actions)
        )
        rewards = self.rewards.astype(np.float64)[..., None]
        dynamics = np.concatenate([before, actions], axis=-1)
        return (np.concatenate([dynamics, after], axis=-1), rewards), (dynamics, after - before)


def _worse_by_the_other(last: tuple[Array, Array], new: tuple[Array, Array]) -> Array:
    """How much the log error on each rollout is greater by the other task's model than by its own's [2 R, outputs]."""
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
    """Log of the median absolute error of each rollout [R, outputs]; a mean would be that of a few contacts."""
    return np.log(np.median(np.abs(side.targets - side.rows @ coefficients), axis=1) + _LEAST_ERROR)


def _units(table: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each column of [R, n, columns]; 1 where it is constant."""
    rows = table.reshape(-1, table.shape[-1])
    std = rows.std(axis=0)
    return rows.mean(axis=0), np.where(std < 1e-9, 1.0, std)


def _standardised(table: Array, units: tuple[Array, Array]) -> Array:
    return (table - units[0]) / units[1]


def _features(inputs: Array) -> Array:
    """Rows of a model [R, n, features] for standardised inputs [R, n, I]: 1, inputs, squares and random waves."""
    x = np.clip(inputs, -10.0, 10.0)  # squares of an outlier would rule the fit
    generator, size = np.random.default_rng(_FEATURE_SEED), x.shape[-1]
    phases = x @ generator.normal(size=(size, _RANDOM_FEATURES)) / np.sqrt(size)
    waves = np.cos(phases + generator.uniform(0.0, 2.0 * np.pi, _RANDOM_FEATURES))
    return np.concatenate([np.ones((*x.shape[:-1], 1)), x, np.square(x), waves], axis=-1)
