"""Reading of reset arguments: tasks, seeds and masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = [
    "TASK_OPTIONS",
    "check_options",
    "read_action",
    "read_mask",
    "read_reset_seed",
    "read_seeds",
    "read_set_task",
    "read_task",
    "read_tasks",
    "read_where",
]

TASK_OPTIONS = ("parameters", "task")
"""The reset options of a single environment; see `read_task`."""


def check_options(options: Iterable[str], valid: Sequence[str]) -> None:
    """Refuse options that the environment does not know.

    Raises:
        MetaMapError: a name that is not in ``valid``.
    """
    for name in options:
        if name not in valid:
            raise unknown_name("reset option", name, valid)


def read_task(family: Family, options: Mapping[str, Any]) -> Task | None:
    """Find the task that reset options ask for.

    Args:
        family: the environment's family.
        options: may hold ``task`` (a `Task` or its JSON form) or ``parameters`` (a mapping), not both.

    Returns:
        The task, or None if the options leave the task as it is.

    Raises:
        MetaMapError: both keys, a task of another family, or parameters that the family does not admit.
    """
    task, parameters = options.get("task"), options.get("parameters")
    if task is not None and parameters is not None:
        raise MetaMapError("give either task or parameters, not both")
    if parameters is not None:
        return family.task(parameters)
    if task is None:
        return None
    if isinstance(task, Mapping):
        task = Task.from_json(task)
    if not isinstance(task, Task):
        raise MetaMapError(f"expected a Task or its JSON form, got {type(task).__name__}")
    return family.check_task(task)


def read_set_task(family: Family, task: object) -> Task:
    """Read the task of a change in mid-episode, a `Task` or its JSON form.

    Raises:
        MetaMapError: as `read_task`, or None.
    """
    read = read_task(family, {"task": task})
    if read is None:
        raise MetaMapError("set_task: expected a Task or its JSON form, got None")
    return read


def read_action(family: Family, action: object) -> NDArray[Any]:
    """Check a single environment's action, which is not clipped.

    Raises:
        MetaMapError: the shape is not [A], or a value is not finite.
    """
    read = np.asarray(action)
    if read.shape != (family.action_size,):
        raise MetaMapError(f"action: expected shape ({family.action_size},), got {read.shape}")
    if not np.isfinite(read).all():
        raise MetaMapError(f"the action is not finite: {action}")
    return read


def read_tasks(family: Family, tasks: object, count: int) -> list[Task]:
    """Read one task per environment.

    Args:
        family: the environments' family.
        tasks: a sequence of `Task` or their JSON forms.
        count: number of environments.

    Raises:
        MetaMapError: not a sequence, another number of tasks, or a task of another family.
    """
    if not isinstance(tasks, Sequence) or isinstance(tasks, str):
        raise MetaMapError(f"tasks: expected a sequence of {count} tasks, got {type(tasks).__name__}")
    if len(tasks) != count:
        raise MetaMapError(f"expected {count} tasks, one per environment, got {len(tasks)}")
    read = [read_task(family, {"task": task}) for task in tasks]
    if None in read:
        raise MetaMapError(f"tasks: environment {read.index(None)} has none; each needs a Task or its JSON form")
    return [task for task in read if task is not None]


def read_seeds(seed: object, count: int) -> list[int | None]:
    """Read one seed per environment: s is read as s, s+1, ...; None leaves a generator as it is.

    Raises:
        MetaMapError: another number of seeds, or one that is not an integer of at least 0.
    """
    if seed is None:
        return [None] * count
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str) and np.ndim(seed):
        if len(seed) != count:
            raise MetaMapError(f"expected an integer or {count} reset seeds, one per environment, got {seed!r}")
        return [read_reset_seed(one) for one in seed]
    first = read_seed(seed, "reset seed", largest=None)
    return [first + index for index in range(count)]


def read_reset_seed(seed: object) -> int | None:
    """Read a single environment's seed; None leaves its generator as it is.

    Raises:
        MetaMapError: not an integer of at least 0.
    """
    return None if seed is None else read_seed(seed, "reset seed", largest=None)


def read_mask(options: Mapping[str, Any], count: int) -> NDArray[np.bool_]:
    """Which environments to reset, bool [N]: ``options["reset_mask"]``, or all.

    Raises:
        MetaMapError: not a bool array of shape [N], or nothing to reset.
    """
    if "reset_mask" not in options:
        return np.ones(count, dtype=np.bool_)
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise MetaMapError(f"reset_mask: expected bool of shape ({count},) with one True at least, got {mask!r}")
    return mask.copy()


def read_where(where: object, count: int) -> list[int]:
    """Which environments are meant, in order: None for all, bool [N], or their distinct indices.

    Raises:
        MetaMapError: a mask of another shape, or an index that is no integer in [0, N) or stands there twice.
    """
    if where is None:
        return list(range(count))
    read = np.asarray(where)
    if read.dtype == np.bool_:
        if read.shape != (count,):
            raise MetaMapError(f"where: expected bool of shape ({count},), got shape {read.shape}")
        return [int(index) for index in np.flatnonzero(read)]
    if read.ndim != 1 or (read.size and read.dtype.kind not in "iu"):
        raise MetaMapError(f"where: expected a mask, bool [{count}], or a list of indices, got {where!r}")
    indices = [int(index) for index in read]
    for index in indices:
        if not 0 <= index < count:
            raise MetaMapError(f"where: expected indices in [0, {count - 1}], got {index}")
        if indices.count(index) > 1:
            raise MetaMapError(f"where: expected each environment once, got {index} twice")
    return indices
