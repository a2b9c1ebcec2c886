"""Policies as vectors, experts trained with Stable-Baselines3, and the zoo that keeps them.

Importing this package imports neither torch nor Stable-Baselines3: each name of ``__all__`` is loaded from
its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metamap_agents import _renamed  # noqa: F401  # old names of modules
from metamap_agents.runtime.lazy import lazy_getattr

if TYPE_CHECKING:
    from metamap_agents.experts.building import build_base, build_experts
    from metamap_agents.experts.expert import Expert
    from metamap_agents.experts.importing import import_expert
    from metamap_agents.experts.recipes import Recipe, load_recipe
    from metamap_agents.experts.training import train_base, train_expert
    from metamap_agents.experts.zoo import Zoo
    from metamap_agents.importers import ImportOptions, read_policy
    from metamap_agents.policy.acting import BatchedPolicy, WeightPolicy
    from metamap_agents.policy.base import BasePolicy
    from metamap_agents.policy.evaluation import evaluate_policies
    from metamap_agents.policy.functional import forward
    from metamap_agents.policy.normalizer import ObservationNormalizer
    from metamap_agents.policy.policies import Policies
    from metamap_agents.policy.spec import PolicySpec
    from metamap_agents.runtime.executors import Executor, LocalExecutor, RayExecutor, make_executor
    from metamap_agents.sb3.bridge import phi_from_sb3, phi_into_sb3
    from metamap_agents.sb3.export import export_sb3
    from metamap_agents.sb3.foreign_zip import read_sb3_actor
    from metamap_agents.sb3.vec_env import FamilyVecEnv

_MODULE_OF = {
    "BasePolicy": "metamap_agents.policy.base",
    "BatchedPolicy": "metamap_agents.policy.acting",
    "Executor": "metamap_agents.runtime.executors",
    "Expert": "metamap_agents.experts.expert",
    "FamilyVecEnv": "metamap_agents.sb3.vec_env",
    "ImportOptions": "metamap_agents.importers",
    "LocalExecutor": "metamap_agents.runtime.executors",
    "ObservationNormalizer": "metamap_agents.policy.normalizer",
    "Policies": "metamap_agents.policy.policies",
    "PolicySpec": "metamap_agents.policy.spec",
    "RayExecutor": "metamap_agents.runtime.executors",
    "Recipe": "metamap_agents.experts.recipes",
    "WeightPolicy": "metamap_agents.policy.acting",
    "Zoo": "metamap_agents.experts.zoo",
    "build_base": "metamap_agents.experts.building",
    "build_experts": "metamap_agents.experts.building",
    "evaluate_policies": "metamap_agents.policy.evaluation",
    "export_sb3": "metamap_agents.sb3.export",
    "forward": "metamap_agents.policy.functional",
    "import_expert": "metamap_agents.experts.importing",
    "load_recipe": "metamap_agents.experts.recipes",
    "make_executor": "metamap_agents.runtime.executors",
    "phi_from_sb3": "metamap_agents.sb3.bridge",
    "phi_into_sb3": "metamap_agents.sb3.bridge",
    "read_policy": "metamap_agents.importers",
    "read_sb3_actor": "metamap_agents.sb3.foreign_zip",
    "train_base": "metamap_agents.experts.training",
    "train_expert": "metamap_agents.experts.training",
}

__all__ = [
    "BasePolicy",
    "BatchedPolicy",
    "Executor",
    "Expert",
    "FamilyVecEnv",
    "ImportOptions",
    "LocalExecutor",
    "ObservationNormalizer",
    "Policies",
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
    "import_expert",
    "load_recipe",
    "make_executor",
    "phi_from_sb3",
    "phi_into_sb3",
    "read_policy",
    "read_sb3_actor",
    "train_base",
    "train_expert",
]


__getattr__ = lazy_getattr(globals(), _MODULE_OF)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
