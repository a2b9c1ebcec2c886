"""Schedules of tasks in effect: for one environment as a Gymnasium wrapper, for many inside `FamilyVectorEnv`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, Split
from metamap_envs.schedule import ALL, Drift, TaskSchedule
from metamap_envs.task import CUSTOM_SPLIT, Task

__all__ = ["ScheduleRun", "ScheduleRuns", "ScheduledTasks", "check_schedule", "read_schedule"]

_STREAM = 20_241_129
"""Keeps the draws of a schedule apart from those of the environment with the same seed."""
_AT_ONCE = 16  # tasks that are drawn: most of the time of a draw does not depend on their number


def read_schedule(schedule: object) -> TaskSchedule:
    """A schedule as it is, or from its JSON form.

    Raises:
        MetaMapError: it is neither.
    """
    return schedule if isinstance(schedule, TaskSchedule) else TaskSchedule.from_json(schedule)


def check_schedule(schedule: TaskSchedule, family: Family) -> None:
    """Check a schedule against a family.

    Raises:
        MetaMapError: an unknown parameter, a value outside of what the split allows, a drift of choices, a split that
            the family has not, or a parameter of a declared family that cannot change in mid-episode.
    """
    names = family.space.names
    for name in schedule.parameters:
        if name != ALL and name not in names:
            raise unknown_name("parameter", name, names, of=f"family {family.name!r}")
    of_name = dict(zip(names, family.space.parameters, strict=True))
    for change in schedule.changes:
        for name, value in (change.parameters or {}).items():
            _check_value(of_name[name], value, schedule.split)
    for drift in schedule.drift:
        if of_name[drift.parameter].choices:
            raise MetaMapError(f"parameter {drift.parameter!r} has choices and cannot drift; use changes or resample")
        if drift.to is not None:
            _check_value(of_name[drift.parameter], drift.to, schedule.split)
    if schedule.resample or any(change.draw for change in schedule.changes):
        family.sample(schedule.split, 1, 0)
    live = getattr(family, "live", None)
    if live is not None:
        for name in names if ALL in schedule.parameters else schedule.parameters:
            live.check_parameter(name)


class ScheduleRun:
    """A schedule in the course of one environment: which task comes before which step.

    Args:
        schedule: the schedule.
        family: of the tasks.

    Raises:
        MetaMapError: as `check_schedule`.
    """

    def __init__(self, schedule: TaskSchedule, family: Family) -> None:
        check_schedule(schedule, family)
        self._schedule, self._family = schedule, family
        self._drifts = [(drift, _Course(drift, _parameter(family, drift), schedule.split)) for drift in schedule.drift]
        self._generator = np.random.default_rng(_STREAM)
        self._drawn: list[Task] = []
        self._steps = 0
        self.base: Task | None = None
        """The task that it starts with; None before the first start."""

    def starts_anew(self, seed: int | None) -> bool:
        """Whether a reset with a seed, or without one, starts it anew with the task that it began with."""
        return self.base is not None and (seed is not None or self._schedule.clock == "episode")

    def begin(self, base: Task, seed: int | None) -> None:
        """Start anew with a task; ``seed`` is that of the environment, or None to go on with the last one."""
        self.base, self._steps = base, 0
        if seed is not None:
            self._generator, self._drawn = np.random.default_rng([_STREAM, seed]), []
        for _, course in self._drifts:
            course.forget()

    def next(self, task: Task) -> Task:
        """The task of the next step, given that of the last; itself if it does not change."""
        step, self._steps = self._steps, self._steps + 1
        values = dict(task.parameters)
        for drift, course in self._drifts:
            values[drift.parameter] = course.next(step, values[drift.parameter], self._generator)
        if step == 0:
            return task
        resample = self._schedule.resample
        if resample is not None and self._generator.random() < resample.probability:
            self._draw(values, resample.parameters)
        for change in self._schedule.changes:
            if change.due(step):
                values.update(change.parameters or {})
                self._draw(values, change.draw or ())
        return task if values == dict(task.parameters) else self._family.task(values, self._schedule.split)

    def _draw(self, values: dict[str, float], names: Sequence[str]) -> None:
        if names:
            if not self._drawn:
                self._drawn = self._family.sample(self._schedule.split, _AT_ONCE, self._generator)
            drawn = self._drawn.pop()
            values.update((name, value) for name, value in drawn.parameters if ALL in names or name in names)


class _Course:
    """Values of one drifting parameter. Where something else has changed it, it goes on from there."""

    def __init__(self, drift: Drift, parameter: Parameter, split: str) -> None:
        self._drift, self._parameter = drift, parameter
        self._hull = tuple(self._scaled(end) for end in _hull(parameter, split))
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self._written: float | None = None
        self._since = 0
        self._origin = self._position = 0.0
        self._low, self._high = self._hull

    def next(self, step: int, value: float, generator: np.random.Generator) -> float:
        """The value after so many steps, given the one before; of a walk one number is drawn for each change."""
        drift = self._drift
        if value != self._written or step <= drift.start:
            self._written, self._since = value, max(step - 1, 0) if step > drift.start else step
            self._origin = self._position = position = self._scaled(value)
            self._low, self._high = min(self._hull[0], position), max(self._hull[1], position)
            if drift.kind == "sinusoid":
                self._origin -= self._wave(self._since)
        elapsed = step - drift.start
        if elapsed <= 0 or elapsed % drift.every:
            return value
        if drift.kind == "line" and elapsed > _up_to(drift.over, drift.every):
            return value
        self._written = self._value(self._moved(step, generator))
        return self._written

    def _moved(self, step: int, generator: np.random.Generator) -> float:
        drift = self._drift
        if drift.deviation is not None:
            self._position = self._inside(self._position + drift.deviation * float(generator.standard_normal()))
            return self._position
        if drift.to is not None and drift.over is not None:
            end = drift.start + drift.over
            share = 1.0 if step >= end else (step - self._since) / (end - self._since)
            return self._origin + share * (self._scaled(drift.to) - self._origin)
        return self._inside(self._origin + self._wave(step))

    def _wave(self, step: int) -> float:
        amplitude, period = self._drift.amplitude, self._drift.period
        assert amplitude is not None, "the schedule was checked"
        assert period is not None, "the schedule was checked"
        return amplitude * math.sin(2.0 * math.pi * max(step - self._drift.start, 0) / period)

    def _inside(self, position: float) -> float:
        """Reflected at the ends of the range; round for an angle."""
        if self._parameter.periodic:
            return math.remainder(position, 2.0 * math.pi)
        width = self._high - self._low
        if width == 0.0:
            return self._low
        folded = math.fmod(position - self._low, 2.0 * width)
        folded += 2.0 * width if folded < 0.0 else 0.0
        return self._low + (folded if folded <= width else 2.0 * width - folded)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._parameter.scale == "log" else value

    def _value(self, position: float) -> float:
        """A value of the parameter, as exact as those of sampled tasks."""
        value = math.exp(position) if self._parameter.scale == "log" else position
        rounded = float(self._parameter.rounded(np.array(value)))
        return min(max(rounded, self._parameter.low), self._parameter.high) + 0.0


class ScheduleRuns:
    """A schedule in the course of N environments, each with its own draws.

    Args:
        schedule: the schedule, or its JSON form.
        family: of the tasks.
        count: number of environments.

    Raises:
        MetaMapError: as `check_schedule`.
    """

    def __init__(self, schedule: TaskSchedule | Mapping[str, Any], family: Family, count: int) -> None:
        read = read_schedule(schedule)
        self._runs = [ScheduleRun(read, family) for _ in range(count)]

    def begin(
        self,
        indices: Sequence[int],
        tasks: Sequence[Task],
        seeds: Sequence[int | None],
        own_seeds: Sequence[int],
        *,
        given: bool,
    ) -> tuple[list[int], list[Task]]:
        """Start episodes: which environments get another task for it, and which.

        Args:
            indices: environments whose episodes start.
            tasks: those of all N environments at present.
            seeds: of the reset, one for each of the N.
            own_seeds: of the environments' generators.
            given: whether the reset has set the tasks.
        """
        changed: dict[int, Task] = {}
        for index in indices:
            run = self._runs[index]
            if run.base is None or given:
                seed = own_seeds[index] if run.base is None else seeds[index]
                run.begin(tasks[index], seed)
            elif run.starts_anew(seeds[index]):
                if run.base != tasks[index]:
                    changed[index] = run.base
                run.begin(run.base, seeds[index])
        return list(changed), list(changed.values())

    def next(self, tasks: Sequence[Task], moving: NDArray[np.bool_]) -> tuple[list[int], list[Task]]:
        """Before a step of the environments ``moving``, bool [N]: which get another task, and which."""
        changed = {index: self._runs[index].next(tasks[index]) for index in np.flatnonzero(moving).tolist()}
        changed = {index: task for index, task in changed.items() if task != tasks[index]}
        return list(changed), list(changed.values())


class ScheduledTasks(gym.Wrapper[Any, Any, Any, Any]):
    """Changes the task of an environment by a schedule.

    ``info["task"]`` is that of the transition, as without the wrapper. A reset with a seed or a task starts the
    schedule anew; see `TaskSchedule` for the others.

    Args:
        env: of a family, inside any wrappers.
        schedule: the schedule, or its JSON form.

    Raises:
        MetaMapError: not an environment of a family, or the schedule does not fit the family.
    """

    def __init__(self, env: gym.Env[Any, Any], schedule: TaskSchedule | Mapping[str, Any]) -> None:
        super().__init__(env)
        base: Any = env.unwrapped
        if not hasattr(base, "set_task"):
            raise MetaMapError(f"a schedule changes tasks of families, and {type(base).__name__} is not of one")
        self.schedule = read_schedule(schedule)
        self._run = ScheduleRun(self.schedule, base.family)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a new episode; the options are the environment's own."""
        base: Any = self.env.unwrapped
        given = any((options or {}).get(name) is not None for name in ("task", "parameters"))
        before = base.task
        anew = self._run.starts_anew(seed) and not given
        if anew:
            base.set_task(self._run.base)
        try:
            result = self.env.reset(seed=seed, options=options)
        except MetaMapError:
            if anew:
                base.set_task(before)
            raise
        if self._run.base is None or given:
            seed = base.np_random_seed if self._run.base is None else seed
            self._run.begin(base.task, seed)
        elif anew:
            self._run.begin(base.task, seed)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Change the task if the schedule says so, then advance by one step."""
        base: Any = self.env.unwrapped
        if self._run.base is not None:
            task = self._run.next(base.task)
            if task != base.task:
                base.set_task(task)
        return self.env.step(action)


def _parameter(family: Family, drift: Drift) -> Parameter:
    return next(each for each in family.space.parameters if each.name == drift.parameter)


def _up_to(over: int | None, every: int) -> int:
    """Steps of a line, up to a whole number of its changes."""
    return math.ceil((over or 0) / every) * every


def _intervals(parameter: Parameter, split: str) -> tuple[tuple[float, float], ...]:
    if split == CUSTOM_SPLIT:
        return ((parameter.low, parameter.high),)
    return parameter.train + (parameter.out if split == Split.TEST_OUT else ())


def _hull(parameter: Parameter, split: str) -> tuple[float, float]:
    """Range in which a continuous parameter drifts."""
    ends = [end for interval in _intervals(parameter, split) for end in interval]
    return min(ends), max(ends)


def _check_value(parameter: Parameter, value: float, split: str) -> None:
    """Refuse a value that the parameter has not, or that the split does not allow."""
    number = parameter.check(value)
    if split == CUSTOM_SPLIT:
        return
    more = ", or split: custom for all that the family admits"
    if parameter.choices:
        allowed = parameter.train_choices or parameter.choices
        if split == Split.TEST_OUT:
            allowed += parameter.out_choices
        if number not in allowed:
            raise MetaMapError(f"parameter {parameter.name!r}: {number:g} is not in split {split!r}: {allowed}{more}")
        return
    low, high = _hull(parameter, split)
    if not low <= number <= high:
        closest = min(max(number, low), high)
        raise MetaMapError(
            f"parameter {parameter.name!r}: {number:g} is outside of split {split!r}, [{low:g}, {high:g}] "
            f"(closest is {closest:g}){more}"
        )
