"""Search for the task that explains a rollout: screening, then bounded least squares."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import least_squares
from scipy.stats import qmc

from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.settings import Number, Settings, Whole
from metamap_envs.state import Array
from metamap_envs.task import Task
from metamap_rl.evaluation.identification.prediction import Predictor, model_of

__all__ = ["Identification", "IdentificationConfig", "identify"]

_STEP = 1e-5  # of a finite difference, in units of the parameter's range
_PRIOR = 1e-5  # weight of the pull to the usual value, which decides where the data does not
_UNCERTAIN = 0.1  # standard error, in units of the range, of a parameter that the rollout does not determine
_SAME = 1e-6  # relative difference of costs that does not tell two choices apart
_EXPLAINED = 1e-9  # mean squared residual, about that of single precision: no further start is tried
_STILL_GOOD = 2.0  # times the cost of an earlier estimate, up to which its task is still the only start
_TOLERANCE, _ROUGH = 1e-6, 1e-3  # relative change of the cost at which a search ends, and one that is to be continued
_WORTH = 2.0  # times the cost of the best start, up to which others are continued
_CONTINUED = 3  # most starts that are
_ALIKE = 1e-2  # distance of two results, in units of the range, that are of one minimum
_SEED = 20_240_917  # of the screened points: the same for all tasks, so that their models are compiled once


class IdentificationConfig(Settings):
    """Settings of system identification."""

    transitions: Annotated[Whole, Field(ge=1)] = 50
    """Largest number of transitions that are used, evenly spaced."""
    screened: Annotated[Whole, Field(ge=0)] = 32
    """Points of the parameter space that are tried first, besides the usual value with all combinations of choices."""
    combinations: Annotated[Whole, Field(ge=1)] = 64
    """Largest number of combinations of choices that are tried; a sample of them if there are more."""
    screening_transitions: Annotated[Whole, Field(ge=1)] = 12
    """Largest number of transitions that they are tried on; searches start with twice as many."""
    starts: Annotated[Whole, Field(ge=1)] = 6
    """Largest number of least-squares searches, from the best of them; none follows one that explains the rollout."""
    evaluations: Annotated[Whole, Field(ge=1)] = 40
    """Largest number of evaluations of a search, besides those for derivatives."""
    model_error: Annotated[Number, Field(gt=-1)] = 0.0
    """Relative error of the simulator's masses, inertias and joint damping; 0 for the exact model."""
    from_reset: bool = True
    """Whether the first transition starts an episode, as with a probe; matters where rewards depend on derived
    quantities, which lag behind the state except at a start."""


@dataclass(frozen=True)
class Identification:
    """Result of `identify`.

    Attributes:
        task: the estimated task.
        cost: mean squared residual, in units of the outcomes' change.
        unidentified: parameters that the rollout says nothing about, by the names of the family; they are near the
            usual value, or one of several choices that explain the rollout equally well.
        seconds: wall-clock time.
        steps: environment steps simulated.
    """

    task: Task
    cost: float
    unidentified: tuple[str, ...]
    seconds: float
    steps: int


def identify(
    rollout: Rollout,
    config: IdentificationConfig | None = None,
    *,
    start: Identification | None = None,
    diagnose: bool = True,
    num_threads: int = 1,
) -> Identification:
    """Estimate the task of a rollout by simulating its transitions under candidate tasks.

    Discrete parameters are enumerated (at most ``combinations`` of them, then one by one), continuous ones are found
    by bounded least squares (`scipy.optimize.least_squares`, trust region reflective) from the best screened points,
    within the bounds that the family admits. The reward formula is known. Where the rollout says nothing about a
    parameter, it stays at its usual value, the median in training, and is reported as unidentified.

    Families whose observations do not hold the state may have a simpler one that models all but what is hidden
    (`model_of`): its simulator is used, and the other parameters are taken to be typical of training tasks.

    Args:
        rollout: n transitions; without a usable one all parameters stay at their usual values.
        config: settings.
        start: an earlier estimate, of transitions before these: the search starts from its task, and from that alone
            as long as it explains the rollout about as well.
        diagnose: find out which parameters are unidentified, which takes simulations of its own.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: a family whose observations do not hold the state and that has no simpler one.
    """
    started = time.perf_counter()
    config, family = config or IdentificationConfig(), get_family(rollout.family)
    model = model_of(family)
    if model is not None and model is not family:
        rollout = replace(rollout, family=model.name, task=None)
    predictor = Predictor(
        rollout,
        most=config.transitions,
        model_error=config.model_error,
        from_reset=config.from_reset,
        num_threads=num_threads,
    )
    search = _Search(predictor, config)
    if not predictor.count:
        task, cost, unidentified = search.usual, float("nan"), search.space.names
    else:
        task, cost = search.best() if start is None else search.best_from(search.own(start.task), start.cost)
        unidentified = search.unidentified(task) if diagnose else ()
    if task.family != family.name:
        hidden = tuple(name for name in family.space.names if name not in search.space.names)
        task = family.task({**{name: _typical(family, name) for name in hidden}, **dict(task.parameters)})
        unidentified = (*unidentified, *hidden)
    return Identification(task, cost, unidentified, time.perf_counter() - started, predictor.steps)


def _typical(family: Family, name: str) -> float:
    """The usual value of a parameter; where it is in no split, as no delay, the middle choice of the training tasks."""
    (parameter,) = (one for one in family.space.parameters if one.name == name)
    choices = parameter.train_choices
    return parameter.usual if not choices or parameter.usual in choices else choices[len(choices) // 2]


def _usual(family: Family) -> dict[str, float]:
    return {parameter.name: parameter.usual for parameter in family.space.parameters}


class _Search:
    """The search on one rollout. Continuous parameters are in units of their range, u in [0, 1], angles unbounded."""

    def __init__(self, predictor: Predictor, config: IdentificationConfig) -> None:
        self.predictor, self.config = predictor, config
        self.family = predictor.family
        self.space = self.family.space
        self.free = [parameter for parameter in self.space.parameters if not parameter.choices]
        self.discrete = [parameter for parameter in self.space.parameters if parameter.choices]
        self.usual = self.family.task(_usual(self.family))
        self.center = np.array([_unit(parameter, parameter.usual) for parameter in self.free])

    def own(self, task: Task) -> Task:
        """A task of another family that has all of this one's parameters, as one of this."""
        return self.family.task({name: value for name, value in task.parameters if name in self.space.names})

    def best_from(self, task: Task, cost: float) -> tuple[Task, float]:
        """The best task and its mean squared residual, given an estimate and what its residual was when it was made."""
        now = float(np.mean(self.predictor.residuals([task]) ** 2))
        if now < _EXPLAINED:
            return task, now
        if now <= _STILL_GOOD * cost:
            return min((task, now), self._refined(task), key=lambda pair: pair[1])
        return self.best(task)

    def best(self, *others: Task) -> tuple[Task, float]:
        """The best task and its mean squared residual; other candidates than the screened ones may be given."""
        candidates = [*others, *_screened(self.family.name, self.config.screened, self.config.combinations)]
        some = self._spaced(self.config.screening_transitions)
        costs = np.mean(self.predictor.residuals(candidates, some) ** 2, axis=(1, 2))
        order = np.argsort(costs, kind="stable")[: self.config.starts]
        rough: list[tuple[Task, float]] = []
        some = self._spaced(2 * self.config.screening_transitions)
        for index in order:
            rough.append(self._refined(candidates[index], some, _ROUGH))
            if rough[-1][1] < _EXPLAINED:
                found = self._refined(rough[-1][0])
                if found[1] < _EXPLAINED:
                    return found
        return self._flipped(*min(map(self._refined, self._distinct(rough)), key=lambda pair: pair[1]))

    def _spaced(self, most: int) -> NDArray[np.intp]:
        """Indices of transitions, evenly spaced."""
        count = self.predictor.count
        return np.linspace(0, count - 1, min(most, count)).astype(np.intp)

    def _distinct(self, rough: Sequence[tuple[Task, float]]) -> list[Task]:
        """Tasks of different minima that may be the best one, given the results of all starts on some transitions."""
        ordered = sorted(rough, key=lambda pair: pair[1])
        most = _WORTH * ordered[0][1]
        found: list[Task] = []
        for task, cost in ordered:
            if cost <= most and len(found) < _CONTINUED and not any(self._alike(task, other) for other in found):
                found.append(task)
        return found

    def _alike(self, task: Task, other: Task) -> bool:
        if any(task[parameter.name] != other[parameter.name] for parameter in self.discrete):
            return False
        apart = np.abs(self._units(task) - self._units(other))
        turned = np.array([parameter.periodic for parameter in self.free], dtype=np.bool_)
        return bool((np.where(turned, np.minimum(apart, 1 - apart), apart) < _ALIKE).all())

    def _flipped(self, task: Task, cost: float) -> tuple[Task, float]:
        """Change choices one by one as long as it helps."""
        for _ in range(len(self.discrete)):
            others = self._neighbours(task)
            if not others or cost < _EXPLAINED:
                break
            costs = np.mean(self.predictor.residuals(others) ** 2, axis=(1, 2))
            if costs.min() >= cost * (1 - _SAME):
                break
            task, cost = self._refined(others[int(costs.argmin())])
        return task, cost

    def _neighbours(self, task: Task) -> list[Task]:
        """Tasks that differ in one choice."""
        changes = [{one.name: choice} for one in self.discrete for choice in one.choices if choice != task[one.name]]
        return [self.family.task({**dict(task.parameters), **change}) for change in changes]

    def _refined(
        self, task: Task, chosen: NDArray[np.intp] | None = None, tolerance: float = _TOLERANCE
    ) -> tuple[Task, float]:
        """Least squares over the continuous parameters; the task and its mean squared residual.

        Args:
            task: start.
            chosen: indices of some of the transitions; default all.
            tolerance: relative change of the cost at which the search ends.
        """
        if not self.free:
            return task, float(np.mean(self.predictor.residuals([task], chosen) ** 2))
        choices = {parameter.name: task[parameter.name] for parameter in self.discrete}
        bounded = np.array([not parameter.periodic for parameter in self.free])
        start = self._units(task)
        found = least_squares(
            lambda units: self._errors(units[None], choices, chosen)[0],
            np.where(bounded, np.clip(start, 1e-6, 1 - 1e-6), start),
            jac=lambda units: self._jacobian(units, choices, chosen),
            bounds=(np.where(bounded, 0.0, -np.inf), np.where(bounded, 1.0, np.inf)),
            x_scale="jac",  # a short rollout may determine one combination of parameters far better than another
            ftol=tolerance,
            xtol=1e-12,
            gtol=None,  # is absolute, and residuals of the exact model are tiny
            max_nfev=self.config.evaluations,
        )
        best = self._task(found.x, choices)
        return best, float(np.mean(self.predictor.residuals([best], chosen) ** 2))

    def _errors(self, units: Array, choices: Mapping[str, float], chosen: NDArray[np.intp] | None = None) -> Array:
        """Residuals of points [C, K], with the pull to the usual value, [C, M]."""
        tasks = [self._task(point, choices) for point in units]
        residuals = self.predictor.residuals(tasks, chosen).reshape(len(units), -1)
        return np.concatenate([residuals, _PRIOR * (units - self.center)], axis=1)

    def _jacobian(self, units: Array, choices: Mapping[str, float], chosen: NDArray[np.intp] | None = None) -> Array:
        """Finite differences [M, K], towards the middle of the range."""
        steps = np.where(units > 0.5, -_STEP, _STEP)
        points = np.concatenate([units[None], units + np.diag(steps)])
        errors = self._errors(points, choices, chosen)
        slopes: Array = ((errors[1:] - errors[0]) / steps[:, None]).T
        return slopes

    def _units(self, task: Task) -> Array:
        return np.array([_unit(parameter, task[parameter.name]) for parameter in self.free])

    def _task(self, units: Array, choices: Mapping[str, float]) -> Task:
        values = {
            parameter.name: parameter.closest(_value(parameter, unit))
            for parameter, unit in zip(self.free, units.tolist(), strict=True)
        }
        return self.family.task({**values, **choices})

    def unidentified(self, task: Task) -> tuple[str, ...]:
        """Parameters that the rollout does not determine, and those with other choices of equal cost."""
        names: set[str] = set()
        choices = {parameter.name: task[parameter.name] for parameter in self.discrete}
        if self.free:
            units = self._units(task)
            errors, slopes = self._errors(units[None], choices)[0], self._jacobian(units, choices)
            variances = _variances(slopes)
            told = (slopes != 0).any(axis=1)  # others are right whatever the task is
            noise = np.sum(errors[told] ** 2) / max(told.sum() - len(units), 1)
            # The pull's share of what is known, 1 where the rollout says nothing; and the standard error.
            unknown = (_PRIOR**2 * variances > 0.5) | (np.sqrt(noise * variances) > _UNCERTAIN)
            names |= {parameter.name for parameter, each in zip(self.free, unknown, strict=True) if each}
        if others := self._neighbours(task):
            costs = np.mean(self.predictor.residuals([task, *others]) ** 2, axis=(1, 2))
            for other in np.flatnonzero(costs[1:] <= costs[0] * (1 + _SAME) + 1e-12):
                names |= {name for name in choices if others[other][name] != task[name]}
        return tuple(name for name in self.space.names if name in names)


def _variances(slopes: Array) -> Array:
    """Diagonal of the inverse of ``slopes.T @ slopes`` [K], whose condition may be too bad for that product.

    The pull is part of the slopes [M, K], so that no singular value of theirs is below its weight but by rounding.
    """
    _, values, rows = np.linalg.svd(slopes, full_matrices=False)
    found: Array = ((rows / np.maximum(values, _PRIOR)[:, None]) ** 2).sum(axis=0)
    return found


def _unit(parameter: Parameter, value: float) -> float:
    """A value as a fraction of the parameter's range, on its scale; of an angle as a fraction of a turn."""
    if parameter.periodic:
        return value / (2 * np.pi)
    low, high, value = (_scaled(parameter, each) for each in (parameter.low, parameter.high, value))
    return float((value - low) / (high - low))


def _value(parameter: Parameter, unit: float) -> float:
    """Inverse of `_unit`."""
    if parameter.periodic:
        return unit * 2 * np.pi
    low, high = _scaled(parameter, parameter.low), _scaled(parameter, parameter.high)
    found = low + unit * (high - low)
    return float(np.exp(found) if parameter.scale == "log" else found)


def _scaled(parameter: Parameter, value: float) -> float:
    return float(np.log(value)) if parameter.scale == "log" else value


@lru_cache(maxsize=8)
def _screened(name: str, count: int, most: int) -> Sequence[Task]:
    """Candidates of a family: the usual values with combinations of the choices, then points of the whole space."""
    family: Family = get_family(name)
    parameters = family.space.parameters
    discrete = [parameter for parameter in parameters if parameter.choices]
    free = [parameter for parameter in parameters if not parameter.choices]
    generator = np.random.default_rng(_SEED)
    every = list(itertools.islice(itertools.product(*(parameter.choices for parameter in discrete)), 100_000))
    if len(every) > most:
        every = [every[index] for index in generator.permutation(len(every))[:most]]
    usual = {parameter.name: parameter.usual for parameter in parameters}
    names = [parameter.name for parameter in discrete]
    tasks = [family.task({**usual, **dict(zip(names, combination, strict=True))}) for combination in every]
    if not free or not count:
        return tasks
    points = qmc.Sobol(len(free), rng=generator).random_base2(int(np.ceil(np.log2(count))))[:count]
    for index, point in enumerate(points):
        choices = dict(zip(names, every[index % len(every)], strict=True))
        values = {one.name: one.closest(_value(one, unit)) for one, unit in zip(free, point.tolist(), strict=True)}
        tasks.append(family.task({**choices, **values}))
    return tasks
