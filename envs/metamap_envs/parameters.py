"""Declared, bounded parameter spaces and the splits that tasks are sampled for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from numbers import Real
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["Interval", "Parameter", "ParameterSpace", "Scale", "Split", "parse_split"]

Interval = tuple[float, float]
Scale = Literal["linear", "log"]

_DECIMALS = 6  # sampled values are rounded, so that they survive JSON and the screen unchanged;
_DIGITS = 4  # to more decimals where all values lie within less than 0.01
_LOG_DIGITS = 6  # significant digits of values on a log scale, where the smallest is as exact as the largest
_LARGEST_LOG = 700.0  # exp of more is no float
_PARTITION_SEED = 20_240_601  # fixed: which combinations are held out is part of a family, not of a run
_PARTITION_SHARES = (0.625, 0.125)  # train, validation; the rest is test-in
_SMALLEST_PARTITION = 8  # fewer combinations than this are shared by all splits


class Split(StrEnum):
    """What a sampled task is for. Test tasks are for final numbers; checkpoints are chosen on validation tasks."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST_IN = "test-in"
    TEST_OUT = "test-out"


def parse_split(name: str) -> Split:
    """Turn a split's name into a `Split`.

    Raises:
        MetaMapError: unknown split.
    """
    try:
        return Split(name)
    except ValueError:
        raise unknown_name("split", name, [split.value for split in Split]) from None


@dataclass(frozen=True)
class Parameter:
    """One dimension of a family: continuous (`train`, `out`) or discrete (`choices`).

    Attributes:
        name: identifier, unique in the family.
        unit: unit of the value ("m/s", "1" for a factor).
        low: smallest value the family accepts.
        high: largest value the family accepts.
        default: value at which the family is the unchanged base environment, or nearest to it.
        train: intervals that train, validation and test-in tasks are drawn from, each by its length; on a log scale by
            the ratio of its ends.
        out: intervals of test-out tasks; empty where the parameter has no outside.
        choices: all values of a discrete parameter; then `train` and `out` are empty.
        train_choices: the choices that train, validation and test-in tasks are drawn from; empty for all of them.
        out_choices: the choices that test-out tasks are drawn from; empty for all of them.
        description: one human-readable sentence.
        periodic: whether the value is an angle in rad, so that both ends of [-pi, pi] are the same.
        categorical: whether the choices are names and not numbers, so that none is between two others.
        scale: "log" for values above 0 that range over decades: tasks are drawn log-uniformly, each decade as often as
            any other, and the coordinate is the natural logarithm. Default: "linear".
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    train: tuple[Interval, ...] = ()
    out: tuple[Interval, ...] = ()
    choices: tuple[float, ...] = ()
    train_choices: tuple[float, ...] = ()
    out_choices: tuple[float, ...] = ()
    description: str = ""
    periodic: bool = False
    categorical: bool = False
    scale: Scale = "linear"

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself."""
        if self.scale not in get_args(Scale):
            raise MetaMapError(f"parameter {self.name!r}: {unknown_name('scale', self.scale, get_args(Scale))}")
        if bool(self.choices) == bool(self.train):
            raise MetaMapError(f"parameter {self.name!r} needs either choices or train intervals")
        if self.categorical and not self.choices:
            raise MetaMapError(f"parameter {self.name!r} is categorical, and has no choices")
        for low, high in self.train + self.out:
            if low > high:
                raise MetaMapError(f"parameter {self.name!r}: expected an interval [low, high], got [{low}, {high}]")
            if not self.low <= low <= high <= self.high:
                raise MetaMapError(
                    f"parameter {self.name!r}: interval [{low}, {high}] leaves its bounds [{self.low}, {self.high}]"
                )
        for choice in self.train_choices + self.out_choices:
            if choice not in self.choices:
                raise MetaMapError(f"parameter {self.name!r}: {choice} is in a split, but none of {self.choices}")
        self.check(self.default)
        if self.scale == "log":
            self._check_log()

    def _check_log(self) -> None:
        """Refuse what has no logarithm, or no order to be put on a scale."""
        if self.periodic or self.categorical:
            kind = "an angle" if self.periodic else "categorical"
            raise MetaMapError(f"parameter {self.name!r}: scale: log is for numbers above 0, and this one is {kind}")
        lows = {"train": self.train, "out": self.out}
        ends = [(key, low) for key, intervals in lows.items() for low, _ in intervals]
        ends += [("choices", choice) for choice in self.choices]
        for key, value in [*ends, ("default", self.default), ("low", self.low)]:
            if value <= 0:
                advice = "; declare a default above 0" if key == "default" else ""
                raise MetaMapError(
                    f"parameter {self.name!r}: scale log: expected values above 0, got {value:g} as {key}{advice}"
                )

    def check(self, value: object) -> float:
        """Return ``value`` as a float if the parameter admits it.

        Raises:
            MetaMapError: not a finite number, out of bounds, or not one of the choices.
        """
        if isinstance(value, bool) or not isinstance(value, Real):
            raise MetaMapError(f"parameter {self.name!r}: expected a number, got {value!r}")
        try:
            number = float(value) + 0.0  # -0.0 becomes 0.0: equal tasks must have equal ids
        except OverflowError:  # an integer that no float can hold
            number = math.inf
        if not math.isfinite(number):
            raise MetaMapError(f"parameter {self.name!r}: expected a finite number, got {number}")
        if self.choices and number not in self.choices:
            closest = min(self.choices, key=lambda choice: abs(choice - number))
            raise MetaMapError(
                f"parameter {self.name!r}: expected one of {self.choices}, got {number} (closest is {closest})"
            )
        if not self.low <= number <= self.high:
            closest = min(max(number, self.low), self.high)
            raise MetaMapError(
                f"parameter {self.name!r}: expected a value in {self.interval(self.low, self.high)}, "
                f"got {number} (closest is {closest})"
            )
        return number

    def interval(self, low: float, high: float) -> str:
        """An interval of its values as text, with the unit if there is one."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"[{low:g}, {high:g}]{unit}"

    def closest(self, value: float) -> float:
        """The admitted value that is closest to a finite number, such as an estimate; angles are wrapped first."""
        if self.choices:
            return min(self.choices, key=lambda choice: abs(choice - value))
        if self.periodic:
            value = math.atan2(math.sin(value), math.cos(value))
        return min(max(value, self.low), self.high)

    @property
    def usual(self) -> float:
        """Its default if it is discrete, else the median of the training tasks."""
        return self.default if self.choices else float(self.quantile(np.array([0.5]), self.train)[0])

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Names of its coordinates: its own; "log" of it; cos and sin of an angle; one for each categorical choice."""
        if self.periodic:
            return f"cos {self.name}", f"sin {self.name}"
        if self.categorical:
            return tuple(f"{self.name} = {choice:g}" for choice in self.choices)
        return (f"log {self.name}",) if self.scale == "log" else (self.name,)

    def coordinates(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Its coordinates at values of any shape, an array of that shape for each; a choice is 1 where it is taken."""
        if self.periodic:
            return [np.cos(values), np.sin(values)]
        if self.categorical:
            return [(values == choice).astype(np.float64) for choice in self.choices]
        return [np.log(values)] if self.scale == "log" else [values]

    def from_coordinates(self, coordinates: Sequence[float]) -> float:
        """The value that coordinates say, also where they are estimates."""
        if self.periodic:
            return math.atan2(coordinates[1], coordinates[0])
        if self.scale == "log":
            return math.exp(min(coordinates[0], _LARGEST_LOG))
        return self.choices[int(np.argmax(coordinates))] if self.categorical else coordinates[0]

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of any shape, as exact as those of sampled tasks."""
        width = sum(high - low for low, high in self.train)
        if self.scale == "log":
            return _significant(values.ravel(), math.log(self.high / self.low) or 1.0).reshape(values.shape)
        return np.round(values, _decimals(width or 1.0))

    def quantile(self, fraction: NDArray[np.float64], intervals: tuple[Interval, ...]) -> NDArray[np.float64]:
        """Map fractions in [0, 1) onto a union of intervals, by length on the parameter's scale; of points equally."""
        lows, highs = (np.array(ends, dtype=np.float64) for ends in zip(*intervals, strict=True))
        log = self.scale == "log"
        starts, ends = (np.log(lows), np.log(highs)) if log else (lows, highs)
        edges = np.concatenate([[0.0], np.cumsum(ends - starts)])
        if edges[-1] == 0.0:
            chosen: NDArray[np.float64] = lows[(fraction * len(lows)).astype(np.intp)]
            return chosen
        position = fraction * edges[-1]
        which = np.minimum(np.searchsorted(edges, position, side="right") - 1, len(intervals) - 1)
        found = starts[which] + position - edges[which]
        rounded = _significant(np.exp(found), edges[-1]) if log else np.round(found, _decimals(edges[-1]))
        values: NDArray[np.float64] = np.clip(rounded, lows[which], highs[which])
        return values


def _decimals(width: float) -> int:
    """Decimals that values spread over a width are rounded to."""
    return max(_DECIMALS, _DIGITS - math.floor(math.log10(width)))


def _significant(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Values rounded to significant digits, to more of them where all lie within a narrow ratio, ``exp(width)``."""
    digits = max(_LOG_DIGITS, _DIGITS - math.floor(math.log10(width)))
    return np.array([float(f"{value:.{digits - 1}e}") for value in values.tolist()])


class ParameterSpace:
    """The ordered parameters of a family, their checks and their sampling.

    Continuous parameters follow a scrambled Sobol sequence. Combinations of discrete parameters are dealt out
    to train, validation and test-in once and for all (5/8, 1/8, 2/8 of a fixed shuffle), so that a held-out
    combination is never trained on; with fewer than 8 combinations all splits share them. Test-out has every
    combination, of its own choices where a parameter declares them. A sample goes through its split's combinations in
    random order, and repeats one only after all of them.

    With a ``training_share`` all parameters are discrete, and the combinations are a grid of which that share, of the
    same shuffle, is seen in training and all the rest is test-in. A small share leaves nothing to hold out for
    validation: its tasks are the training ones.
    """

    def __init__(self, parameters: tuple[Parameter, ...], *, training_share: float | None = None) -> None:
        """Collect parameters.

        Raises:
            MetaMapError: no parameters, or two of the same name; a training share that is not in (0, 1), or one
                together with a continuous parameter.
        """
        self.parameters = parameters
        self.training_share = training_share
        if training_share is not None and not 0 < training_share < 1:
            raise MetaMapError(f"the training share must be between 0 and 1, got {training_share}")
        if training_share is not None and not all(parameter.choices for parameter in parameters):
            raise MetaMapError("a training share is of combinations, so that all parameters must be discrete")
        self.names = tuple(parameter.name for parameter in parameters)
        if not parameters or len(set(self.names)) != len(self.names):
            raise MetaMapError(f"a parameter space needs distinct parameters, got {self.names}")

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.parameters)

    def check(self, given: Mapping[str, object], owner: str) -> tuple[tuple[str, float], ...]:
        """Complete ``given`` with defaults and check every value.

        Args:
            given: some or all parameters by name.
            owner: whose parameters these are, for the error message.

        Returns:
            All parameters as (name, value), in the space's order.

        Raises:
            MetaMapError: an unknown name, or a value that its parameter does not admit.
        """
        if not isinstance(given, Mapping):
            raise MetaMapError(f"parameters of {owner}: expected a mapping of names to numbers, got {given!r}")
        for name in given:
            if name not in self.names:
                raise unknown_name("parameter", name, self.names, of=owner)
        return tuple((p.name, p.check(given.get(p.name, p.default))) for p in self.parameters)

    @property
    def has_outside(self) -> bool:
        """Whether any parameter declares values of its own for test-out."""
        return any(parameter.out or parameter.out_choices for parameter in self.parameters)

    def unseen(self, split: str) -> bool:
        """Whether training draws no task like those of a split: outside its range, or the rest of a grid."""
        return split == Split.TEST_OUT or (self.training_share is not None and split == Split.TEST_IN)

    @cached_property
    def coordinate_names(self) -> tuple[str, ...]:
        """Names of the columns of `coordinates`, the parameters' one after the other."""
        return tuple(name for parameter in self.parameters for name in parameter.coordinate_names)

    def coordinate_columns(self, names: Sequence[str]) -> list[int]:
        """Columns of `coordinates` that belong to some of the parameters."""
        owners = [parameter.name for parameter in self.parameters for _ in parameter.coordinate_names]
        return [column for column, owner in enumerate(owners) if owner in names]

    def coordinates(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """The parameters as numbers that change smoothly wherever the task does.

        Args:
            values: [..., P], in the space's order.

        Returns:
            [..., K] float32, K the number of `coordinate_names`.
        """
        columns: list[NDArray[np.float64]] = []
        for index, parameter in enumerate(self.parameters):
            columns += parameter.coordinates(values[..., index])
        return np.stack(columns, axis=-1).astype(np.float32)

    def from_coordinates(self, coordinates: NDArray[np.floating]) -> dict[str, float]:
        """Inverse of `coordinates` for one point [K], also for estimates that lie off it; values are not checked."""
        rest = iter(coordinates)
        return {
            parameter.name: parameter.from_coordinates([float(next(rest)) for _ in parameter.coordinate_names])
            for parameter in self.parameters
        }

    @cached_property
    def combinations(self) -> dict[Split, list[tuple[float, ...]]]:
        """Combinations of the discrete parameters that each split may draw, in the order of dealing."""
        discrete = [parameter for parameter in self.parameters if parameter.choices]
        every = list(itertools.product(*(parameter.train_choices or parameter.choices for parameter in discrete)))
        order = np.random.default_rng(_PARTITION_SEED).permutation(len(every))
        shuffled = outside = [every[index] for index in order]
        if self.training_share is not None:
            seen = max(1, round(self.training_share * len(every)))
            return dict.fromkeys(Split, shuffled[:seen]) | {Split.TEST_IN: shuffled[seen:], Split.TEST_OUT: outside}
        if any(parameter.train_choices or parameter.out_choices for parameter in discrete):
            outside = list(itertools.product(*(parameter.out_choices or parameter.choices for parameter in discrete)))
        if len(every) < _SMALLEST_PARTITION:
            return dict.fromkeys(Split, shuffled) | {Split.TEST_OUT: outside}
        first = round(_PARTITION_SHARES[0] * len(every))
        second = first + round(_PARTITION_SHARES[1] * len(every))
        return {
            Split.TRAIN: shuffled[:first],
            Split.VALIDATION: shuffled[first:second],
            Split.TEST_IN: shuffled[second:],
            Split.TEST_OUT: outside,
        }

    def sample(self, split: Split, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw parameter values for a split.

        Args:
            split: which ranges and which combinations to use.
            count: number of points, at least 1.
            generator: source of the Sobol scrambling and of the order of the combinations.

        Returns:
            Values, float64 [count, P], in the space's order.

        Raises:
            MetaMapError: ``count`` below 1, or test-out asked of a space that has no outside.
        """
        if count < 1:
            raise MetaMapError(f"the number of tasks must be at least 1, got {count}")
        if split is Split.TEST_OUT and not self.has_outside:
            raise MetaMapError("this family declares no test-out range; valid splits are train, validation, test-in")
        fractions = _sobol(len(self.parameters), count, generator)
        combinations = self.combinations[split]
        order = generator.permutation(len(combinations))
        rows = np.array([combinations[order[index % len(order)]] for index in range(count)])
        values = np.empty((count, len(self.parameters)))
        discrete = 0
        for column, parameter in enumerate(self.parameters):
            if parameter.choices:
                values[:, column] = rows[:, discrete]
                discrete += 1
            else:
                outside = split is Split.TEST_OUT and parameter.out
                intervals = parameter.out if outside else parameter.train
                values[:, column] = parameter.quantile(fractions[:, column], intervals)
        return values


def _sobol(dimensions: int, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """First ``count`` points of a scrambled Sobol sequence, float64 [count, dimensions] in [0, 1)."""
    from scipy.stats import qmc  # a slow import that only sampling needs

    sequence = qmc.Sobol(dimensions, scramble=True, rng=generator)
    exponent = max(0, math.ceil(math.log2(count)))  # balanced only at powers of two; take the head of one
    points: NDArray[np.float64] = sequence.random_base2(exponent)
    return points[:count]
