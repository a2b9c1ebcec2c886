"""Tasks that imported policies were trained on, and the actions of a family's own environment."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.from_gymnasium.family import GymnasiumFamily
from metamap_envs.parameters import Parameter, Split
from metamap_envs.task import Task

__all__ = ["given_task", "own_action_range", "task_of_zoo"]

_SEARCHED = 256  # tasks of each split


def given_task(family: Family, parameters: Mapping[str, float], split: str) -> Task:
    """The task of given parameters, the others at their defaults, as one of a split.

    Raises:
        MetaMapError: unknown parameter or split, a value that the family does not admit, or one that the split's tasks
            do not have.
    """
    task = family.task(parameters, split)
    if not family.space.unseen(split):
        for parameter in family.space.parameters:
            if not _is_trained(parameter, task[parameter.name]):
                raise MetaMapError(
                    f"split {split!r}: {parameter.name}={task[parameter.name]:g} is outside of the training range, "
                    f"{_range_text(parameter)}: use split 'test-out', or another value"
                )
    return task


def _is_trained(parameter: Parameter, value: float) -> bool:
    """Whether training tasks may have a value."""
    if parameter.choices:
        return value in (parameter.train_choices or parameter.choices)
    return any(low <= value <= high for low, high in parameter.train)


def _range_text(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(f"{choice:g}" for choice in parameter.train_choices or parameter.choices)
    return ", ".join(parameter.interval(low, high) for low, high in parameter.train)


def task_of_zoo(zoo: Zoo, task_id: str) -> Task:
    """The task of an id: of an expert of the zoo, or one of the first 256 tasks of each split under its seed.

    Raises:
        MetaMapError: there is none.
    """
    found = {expert.task.id: expert.task for expert in zoo.experts()} if zoo.has_base else {}
    for split in Split:
        if split != Split.TEST_OUT or zoo.family.space.has_outside:
            found |= {task.id: task for task in zoo.tasks(split, _SEARCHED)}
    if task_id not in found:
        close = get_close_matches(task_id, found, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise MetaMapError(
            f"unknown task {task_id!r} of the zoo {zoo.root}: {hint}`metamap experts list {zoo.root}` lists those with "
            "experts"
        )
    return found[task_id]


def own_action_range(family: Family) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest action of the environment that a family is made of, [A] each; of choices -1 and 1."""
    low, high = family.action_range
    if isinstance(family, GymnasiumFamily):
        space: Any = family.own_spaces[1]
        if isinstance(space, Box):
            low, high = space.low, space.high
    return np.ravel(low).astype(np.float64), np.ravel(high).astype(np.float64)
