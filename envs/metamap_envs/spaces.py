"""Spaces and reset options that the single and the vector environment share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.task import Task

__all__ = ["action_space", "observation_space", "read_task"]


def observation_space(family: Family) -> Box:
    """Unbounded float64 [O], as Gymnasium's MuJoCo environments have it."""
    return Box(-np.inf, np.inf, (family.observation_size,), np.float64)


def action_space(family: Family) -> Box:
    """The actuators' control range, float32 [A]."""
    low, high = family.action_range
    return Box(low, high, dtype=np.float32)


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
