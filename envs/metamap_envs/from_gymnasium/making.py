"""Environments with a task's arguments, attributes and MuJoCo models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.constructor import with_attributes
from metamap_envs.from_gymnasium.fields import ModelField, changed_model, check_written, write_live
from metamap_envs.from_gymnasium.models import loads
from metamap_envs.user_env import make_user_env

__all__ = ["creator_of", "make_env", "make_with_fields"]


def creator_of(spec: EnvSpec) -> Any:
    """The class or function behind an environment's id."""
    return spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))


def make_env(
    spec: EnvSpec,
    arguments: Mapping[str, Any],
    attributes: Mapping[str, Any] | None = None,
    of_class: Mapping[str, Any] | None = None,
) -> gym.Env[Any, Any]:
    """Make an environment with its own wrappers but no time limit.

    Args:
        spec: Gymnasium's.
        arguments: of the constructor.
        attributes: values that its constructor finds in place of those that it sets.
        of_class: other attributes of its class.

    Raises:
        MetaMapError: a library that the environment needs is missing, or it refuses the arguments.
    """
    changed = bool(attributes or of_class)
    spec = replace(
        spec,
        entry_point=with_attributes(creator_of(spec), attributes or {}, of_class) if changed else spec.entry_point,
        max_episode_steps=None,
        disable_env_checker=True,
    )
    return make_user_env(lambda: gym.make(spec, **arguments), f"environment {spec.id!r}")


def make_with_fields(
    make: Callable[[], gym.Env[Any, Any]], fields: Sequence[tuple[ModelField, float]], load: int | None
) -> gym.Env[Any, Any]:
    """Make an environment whose model has other values.

    Args:
        make: makes it.
        fields: what to write into its model; may be empty.
        load: number of the load that gives its constructor the model, where the values are compiled in; None: they are
            written into the model of the finished environment.

    Raises:
        MetaMapError: MuJoCo's compiler or the environment's code makes other numbers of them.
    """
    if not fields:
        return make()
    if load is None:
        env = make()
        model = env.unwrapped.model  # type: ignore[attr-defined]
        check_written(model, write_live(model, fields), fields, model)
        return env
    with loads((load, lambda spec, own: changed_model(spec, own, fields))) as found:
        env = make()
    model = getattr(env.unwrapped, "model", None)
    if len(found) <= load or found[load].model is not model:
        raise MetaMapError("the constructor loads another model than at the environment's own values")
    own = found[load].own
    check_written(model, {k: v for target, value in fields for k, v in target.written(own, value).items()}, fields, own)
    return env
