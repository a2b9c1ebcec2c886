"""Parameterised MuJoCo families: tasks, Gymnasium environments, and a fast vector simulator."""

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
    "Split",
    "State",
    "Task",
    "declared_families",
    "from_gymnasium",
    "get_family",
    "list_families",
    "load_family",
    "register_family",
]

register_all()
