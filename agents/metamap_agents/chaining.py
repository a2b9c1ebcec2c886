"""The order in which experts start from one another: along a minimum spanning tree of their tasks.

Neighbours in the tree are near each other as tasks, so that training is short and phi* changes little from one to the
next. An expert's start is a function of the tasks alone: whoever trains, in however many processes, and wherever a
build was stopped, the tree's edges are the same (the nearest finished task is the one that the tree names).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metamap_agents.parent import coordinate_scales
from metamap_envs.parameters import Split
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["Link", "chain"]

_SCALE_TASKS = 1024  # over which coordinates are standardised


@dataclass(frozen=True)
class Link:
    """A task whose expert is to be trained.

    Attributes:
        task: the task.
        start: the task whose expert it starts from; None for phi_0.
        depth: how many experts have to be trained one after the other before it.
    """

    task: Task
    start: Task | None
    depth: int


def chain(tasks: Sequence[Task], finished: Collection[Task], seed: int) -> list[Link]:
    """Where each of ``tasks`` that is not finished starts from.

    Training tasks first: from the one that is nearest to the family's default, or from what is finished. A task of
    another split starts from a training task or one of its own split, and none of training from theirs, so that what a
    mapper learns from does not depend on what it is measured on.

    Args:
        tasks: of one family.
        finished: tasks whose experts are there.
        seed: of the training tasks over which coordinates are standardised.
    """
    seed = read_seed(seed)
    if not tasks:
        return []
    distance = _Distance(tasks[0].family, seed)
    depths = dict.fromkeys(sorted(finished, key=lambda task: task.id), 0)
    links: list[Link] = []
    for split in sorted({task.split for task in tasks}, key=lambda name: (name != Split.TRAIN, name)):
        waiting = {task: _FAR for task in tasks if task.split == split and task not in depths}
        near: dict[Task, Task | None] = dict.fromkeys(waiting)
        added = [task for task in depths if task.split in (Split.TRAIN, split)]
        while waiting:
            for known in added:
                for task, best in waiting.items():
                    edge = (distance(task, known), min(task.id, known.id), max(task.id, known.id))
                    if edge < best:
                        waiting[task], near[task] = edge, known
            chosen = min(waiting, key=lambda task: (*waiting[task], distance(task, None), task.id))
            start = near[chosen]
            depths[chosen] = 0 if start is None or start in finished else depths[start] + 1
            links.append(Link(chosen, start, depths[chosen]))
            del waiting[chosen]
            added = [chosen]
    return links


_FAR = (np.inf, "", "")


class _Distance:
    """Between tasks of one family, in standardised coordinates; remembered."""

    def __init__(self, family: str, seed: int) -> None:
        self._family = get_family(family)
        names = self._family.space.names
        _, std = coordinate_scales(self._family, names, self._family.sample("train", _SCALE_TASKS, seed))
        self._scale = np.where(std > 0, std, 1.0)  # what training does not vary has no scale
        self._points: dict[Task, NDArray[np.float32]] = {}

    def __call__(self, task: Task, other: Task | None) -> float:
        """Distance; without another task from the family's default."""
        return float(np.linalg.norm(self._point(task) - self._point(other or self._family.task())))

    def _point(self, task: Task) -> NDArray[np.float32]:
        if task not in self._points:
            values = np.array([value for _, value in task.parameters])
            self._points[task] = (self._family.space.coordinates(values) / self._scale).astype(np.float32)
        return self._points[task]
