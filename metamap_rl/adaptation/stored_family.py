"""The family of a mapper that was made elsewhere, declared from the mapper itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import name_of
from metamap_envs.identity import check_family, is_family
from metamap_envs.registry import VARIABLE, from_gymnasium
from metamap_rl.mapper.mapper import Mapper

__all__ = ["know_family"]


def know_family(mapper: Mapper, env: gym.Env[Any, Any]) -> None:
    """Declare the family of a mapper if it is unknown here and the environment is the one that it is declared for.

    A mapper stores its family's declaration, which names a module: none is imported for it. The environment has been
    made, so the code that the declaration names is in use already.

    Args:
        mapper: of any family; nothing is done for those that are known.
        env: the environment that its policy is meant for.

    Raises:
        MetaMapError: it is declared for another environment, or the declaration is wrong or does not fit that
            environment any more.
    """
    declared = mapper.environment.get("declared")
    if is_family(mapper.family) or not isinstance(declared, Mapping) or "environment" not in declared:
        return
    module, _, name = str(declared["environment"]).rpartition(":")
    if env.spec is None or name != env.spec.id or (module and module not in sys.modules):
        raise MetaMapError(
            f"the mapper's family {mapper.family!r} is declared for {declared['environment']!r} and unknown here: "
            f"expected that environment, got {name_of(env)!r}; {VARIABLE}=PATH of its YAML file makes it known for "
            "others too"
        )
    from_gymnasium(_declaration(mapper.family, mapper.environment, declared))
    check_family(mapper.environment, mapper.family, "the mapper was")


def _declaration(family: str, environment: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """A stored declaration as `from_gymnasium` takes it; the stored one has its parameters sorted."""
    document = {key: value for key, value in declared.items() if key != "order"}
    parameters, order = declared.get("parameters"), declared.get("order")
    if isinstance(parameters, Mapping) and isinstance(order, list) and sorted(order) == sorted(parameters):
        document["parameters"] = {key: parameters[key] for key in order}
    return {"name": family, "version": environment.get("version", 0), **document}
