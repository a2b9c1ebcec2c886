"""Parameterised MuJoCo families: tasks, Gymnasium environments, and a fast vector simulator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metamap_envs import (
    _mujoco,  # noqa: F401  # first, since everything else imports mujoco
    _renamed,  # noqa: F401  # old names
)
from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.family_spaces import FamilySpaces
from metamap_envs.parameters import Parameter, ParameterSpace, Split
from metamap_envs.registration import register_all
from metamap_envs.registry import (
    declared_families,
    from_gymnasium,
    get_family,
    list_families,
    load_family,
    register_family,
)
from metamap_envs.rollout import Rollout
from metamap_envs.state import Readout, State
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

if TYPE_CHECKING:
    from metamap_envs.schedule import TaskSchedule
    from metamap_envs.scheduled import ScheduledTasks

__all__ = [
    "Family",
    "FamilyEnv",
    "FamilySpaces",
    "FamilyVectorEnv",
    "MetaMapError",
    "Parameter",
    "ParameterSpace",
    "Readout",
    "Rollout",
    "ScheduledTasks",
    "Split",
    "State",
    "Task",
    "TaskSchedule",
    "declared_families",
    "from_gymnasium",
    "get_family",
    "list_families",
    "load_family",
    "register_family",
]

_HOME = {"ScheduledTasks": "metamap_envs.scheduled", "TaskSchedule": "metamap_envs.schedule"}
"""Module of each name that is imported on first use, since it imports pydantic."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOME[name]), name)
    return globals()[name]


register_all()
