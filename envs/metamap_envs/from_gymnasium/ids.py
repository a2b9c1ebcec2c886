"""Gymnasium ids of declared families, registered before the families themselves are made.

Only the head of a file is read here: its environment's module is not imported, and nothing is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError
from metamap_envs.family import gym_id_of

__all__ = ["DEFAULT_HORIZON", "head_of", "register_files", "register_id"]

DEFAULT_HORIZON = 200
"""Steps of an episode of a family of an MJCF model that declares none."""
_OWN_MODEL = "metamap_envs.env:FamilyEnv"
_GYMNASIUM = "metamap_envs.declared_env:GymnasiumFamilyEnv"
_WITH_LIMIT = "metamap_envs.declared_env:make_with_limit"

_HEAD = re.compile(r"^(name|version|horizon|environment|model): *([^\s#]+) *(?:#.*)?$", re.MULTILINE)


def register_files(examples: Iterable[Path], listed: Iterable[str]) -> None:
    """Register the ids of the package's own files and of those that METAMAP_FAMILIES lists."""
    for path in examples:
        _register(_head_of_example(path))
    for each in listed:
        _register(head_of(Path(each)))


def register_id(family: str, gym_id: str, horizon: int | None, entry_point: str) -> None:
    """Register an id that is free, or that the head of this family's file was registered under.

    Args:
        family: its name.
        gym_id: ``MetaMap/<Name>-v<version>``.
        horizon: steps of an episode; None if only the environment knows, which then has the limit inside.
        entry_point: of its single environment.

    Raises:
        MetaMapError: another family's name gives the same id.
    """
    taken = gym.registry.get(gym_id)
    if taken is not None and taken.kwargs.get("family") != family:
        raise MetaMapError(
            f"family {family!r}: its Gymnasium id {gym_id} is that of {taken.kwargs.get('family')!r}; "
            "give the declared one another name"
        )
    if taken is not None and taken.max_episode_steps == horizon:
        return
    gym.registry.pop(gym_id, None)
    gym.register(
        gym_id,
        entry_point=entry_point if horizon is not None else _WITH_LIMIT,
        vector_entry_point="metamap_envs.vector:make_vector_env",
        max_episode_steps=horizon,
        kwargs={"family": family},
    )


def _register(head: Mapping[str, Any]) -> None:
    try:
        name, version = str(head["name"]), int(head.get("version", 0))
        own_model = "model" in head
        limit = head.get("horizon") or (DEFAULT_HORIZON if own_model else _limit_of(str(head["environment"])))
        horizon = None if limit is None else int(limit)
    except (KeyError, TypeError, ValueError):
        return
    gym_id = gym_id_of(name, version)
    if gym_id not in gym.registry:
        register_id(name, gym_id, horizon, _OWN_MODEL if own_model else _GYMNASIUM)


def _limit_of(environment: str) -> int | None:
    """The time limit of a Gymnasium id that is registered already."""
    known = gym.registry.get(environment.rpartition(":")[2])
    return None if known is None else known.max_episode_steps


def _head_of_example(path: Path) -> Mapping[str, Any]:
    """Head of a file of this package, which is plain enough to be read without a YAML parser."""
    return dict(_HEAD.findall(path.read_text(encoding="utf-8")))


def head_of(path: Path) -> Mapping[str, Any]:
    """Head of a user's file; one that cannot be read is left to `get_family`, which tells what is wrong."""
    from metamap_envs.yaml_text import read_yaml

    try:
        document = read_yaml(path)
    except MetaMapError:
        return {}
    return document if isinstance(document, Mapping) else {}
