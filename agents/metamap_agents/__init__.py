"""Policies as vectors, experts trained with Stable-Baselines3, and the zoo that keeps them.

Importing this package imports neither torch nor Stable-Baselines3: each name of ``__all__`` is loaded from
its module when it is first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metamap_agents.base_policy import BasePolicy
    from metamap_agents.building import build_base, build_experts
    from metamap_agents.evaluation import evaluate_policies
    from metamap_agents.executors import Executor, LocalExecutor, RayExecutor, make_executor
    from metamap_agents.expert import Expert
    from metamap_agents.functional import forward
    from metamap_agents.normalizer import ObservationNormalizer
    from metamap_agents.policies import BatchedPolicy, WeightPolicy
    from metamap_agents.policy_spec import PolicySpec
    from metamap_agents.recipes import Recipe, load_recipe
    from metamap_agents.sb3_bridge import export_sb3, phi_from_sb3, phi_into_sb3
    from metamap_agents.sb3_vec_env import FamilyVecEnv
    from metamap_agents.sb3_zip import read_sb3_actor
    from metamap_agents.training import train_base, train_expert
    from metamap_agents.zoo import Zoo

_MODULE_OF = {
    "BasePolicy": "base_policy",
    "BatchedPolicy": "policies",
    "Executor": "executors",
    "Expert": "expert",
    "FamilyVecEnv": "sb3_vec_env",
    "LocalExecutor": "executors",
    "ObservationNormalizer": "normalizer",
    "PolicySpec": "policy_spec",
    "RayExecutor": "executors",
    "Recipe": "recipes",
    "WeightPolicy": "policies",
    "Zoo": "zoo",
    "build_base": "building",
    "build_experts": "building",
    "evaluate_policies": "evaluation",
    "export_sb3": "sb3_bridge",
    "forward": "functional",
    "load_recipe": "recipes",
    "make_executor": "executors",
    "phi_from_sb3": "sb3_bridge",
    "phi_into_sb3": "sb3_bridge",
    "read_sb3_actor": "sb3_zip",
    "train_base": "training",
    "train_expert": "training",
}

__all__ = [
    "BasePolicy",
    "BatchedPolicy",
    "Executor",
    "Expert",
    "FamilyVecEnv",
    "LocalExecutor",
    "ObservationNormalizer",
    "PolicySpec",
    "RayExecutor",
    "Recipe",
    "WeightPolicy",
    "Zoo",
    "build_base",
    "build_experts",
    "evaluate_policies",
    "export_sb3",
    "forward",
    "load_recipe",
    "make_executor",
    "phi_from_sb3",
    "phi_into_sb3",
    "read_sb3_actor",
    "train_base",
    "train_expert",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next look-up finds it here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
