"""Trials of service: the task of each step, the same for every method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.schedule import Change, Resampling, TaskSchedule
from metamap_envs.scheduled import ScheduleRun
from metamap_envs.task import Task

__all__ = ["ServiceTrials", "draw_trials", "schedule_of"]


@dataclass(frozen=True, eq=False)
class ServiceTrials:
    """N trials of n steps without a reset, but for those after a fall.

    Attributes:
        tasks: task of each step and trial, [n][N].
        seeds: of the first reset and of all later ones, [N].
    """

    tasks: Sequence[Sequence[Task]]
    seeds: Sequence[int]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether the task changed just before each step, bool [n, N]."""
        found = np.zeros((len(self.tasks), len(self.seeds)), dtype=np.bool_)
        for step, (old, new) in enumerate(pairwise(self.tasks), start=1):
            found[step] = [one != other for one, other in zip(old, new, strict=True)]
        return found

    @property
    def digest(self) -> str:
        """Hash of tasks, change points and seeds: equal for methods that may be compared."""
        ids = [[task.id for task in row] for row in self.tasks]
        return hashlib.sha256(json.dumps([ids, list(self.seeds)]).encode()).hexdigest()[:16]


def schedule_of(split: str, *, hazard: float, changes: Sequence[int]) -> TaskSchedule:
    """Another task of a split before each step with probability ``hazard``, and before the given steps."""
    return TaskSchedule(
        split=split,
        clock="run",
        changes=tuple(Change(step=step, draw=("all",)) for step in changes),
        resample=Resampling(probability=hazard) if hazard else None,
    )


def draw_trials(
    family: Family, schedule: TaskSchedule, *, steps: int, trials: int, entropy: Sequence[int]
) -> ServiceTrials:
    """Draw the tasks of trials. A trial does not depend on how many others there are.

    Args:
        family: of the tasks.
        schedule: of the changes; also says the split of the first task.
        steps: n.
        trials: N.
        entropy: of all draws, numbers as `numpy.random.SeedSequence` takes them.

    Raises:
        MetaMapError: no steps, no trials, or a schedule that does not fit the family.
    """
    if steps < 1 or trials < 1:
        raise MetaMapError(f"trials of service: expected at least 1 step and 1 trial, got {steps} and {trials}")
    columns, seeds = [], []
    for trial in range(trials):
        of_task, of_schedule, of_reset = np.random.SeedSequence([*entropy, trial]).generate_state(3).tolist()
        (task,) = family.sample(schedule.split, 1, np.random.default_rng(of_task))
        run = ScheduleRun(schedule, family)
        run.begin(task, of_schedule)
        column = []
        for _ in range(steps):
            task = run.next(task)
            column.append(task)
        columns.append(column)
        seeds.append(of_reset // 2)  # below 2^31
    return ServiceTrials([list(row) for row in zip(*columns, strict=True)], seeds)
