"""Environments with a task's values in their MuJoCo models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.fields import ModelField, changed_model, check_written, write_live
from metamap_envs.from_gymnasium.models import loads

__all__ = ["make_with_fields"]


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
