"""From the declaration of a family to the family: every name in it is looked up in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from metamap_envs.errors import MetaMapError, one_line, prefixed, unknown_name
from metamap_envs.from_gymnasium.constructor import argument_names
from metamap_envs.from_gymnasium.declaration import Declaration, ParameterEntry
from metamap_envs.from_gymnasium.effects import check_effects
from metamap_envs.from_gymnasium.family import GymnasiumFamily
from metamap_envs.from_gymnasium.making import creator_of, make_env
from metamap_envs.from_gymnasium.models import Load, loads, shares_model, source_of
from metamap_envs.from_gymnasium.probing import check_overlaps, check_taken
from metamap_envs.from_gymnasium.ranges import parameter_of
from metamap_envs.from_gymnasium.targets import ModelField, Target, check_values, resolve
from metamap_envs.from_gymnasium.user_modules import import_user_module
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.user_env import close_user_env, comes_from_users, failure

__all__ = ["build", "find_spec"]


def build(declaration: Declaration, folder: Path) -> GymnasiumFamily:
    """Make the class of a declared family and its one instance.

    Args:
        declaration: of the family.
        folder: where a module of its environment is looked for, besides Python's path.

    Raises:
        MetaMapError: something in the declaration does not fit the environment, or that cannot be used.
    """
    try:
        return _build(declaration, folder, f"family {declaration.name!r}")
    except (MetaMapError, Warning):
        raise
    except (Exception, SystemExit) as error:
        if not comes_from_users(error):
            raise
        raise MetaMapError(
            f"family {declaration.name!r}: environment {declaration.environment!r}: {failure(error)}"
        ) from error


def _build(declaration: Declaration, folder: Path, owner: str) -> GymnasiumFamily:
    spec = find_spec(declaration.environment, owner, folder)
    label = f"{owner}: environment {spec.id!r}"
    creator = _creator(spec, label)
    _check_arguments(declaration, creator, owner)
    with loads() as loaded:
        env = make_env(spec, declaration.arguments)
    load = source_of(loaded, getattr(env.unwrapped, "model", None))
    second = make_env(spec, declaration.arguments)
    shared = shares_model(env, second)
    close_user_env(second, label)
    with prefixed(owner):
        targets, parameters = _resolved(declaration, spec, env, None if load is None else loaded[load], shared)
    horizon = declaration.horizon or spec.max_episode_steps
    if horizon is None:
        raise MetaMapError(f"{owner}: {spec.id} has no time limit of its own; declare a horizon")
    body = {
        "__doc__": GymnasiumFamily.__doc__,
        "__module__": GymnasiumFamily.__module__,
        "name": declaration.name,
        "version": declaration.version,
        "base_id": spec.id,
        "embodiment": declaration.embodiment or spec.id.lower().replace("/", "-").replace("_", "-"),
        "space": ParameterSpace(tuple(parameters)),
        "horizon": horizon,
        "frame_skip": int(getattr(env.unwrapped, "frame_skip", 0)),
        "description": declaration.description or f"{spec.id} with unknown {', '.join(targets)}",
        "physics_parameters": frozenset(targets),
        "spec": spec,
        "arguments": dict(declaration.arguments),
        "targets": targets,
        "declared": declaration.canonical(horizon),
        "load": load,
    }
    close_user_env(env, label)
    family: GymnasiumFamily = type("DeclaredFamily", (GymnasiumFamily,), body)()
    assert family.observation_size + family.action_size  # read here, so that unfit spaces are refused here
    model = getattr(env.unwrapped, "model", None)
    with prefixed(owner):
        check_overlaps(targets, model)
        check_effects(targets, parameters, model)
        check_taken(family)
    return family


def _creator(spec: EnvSpec, label: str) -> Any:
    try:
        return creator_of(spec)
    except Exception as error:
        raise MetaMapError(f"{label}: {failure(error)}") from error


def _resolved(
    declaration: Declaration, spec: EnvSpec, env: gym.Env[Any, Any], load: Load | None, shared: bool
) -> tuple[dict[str, Target], list[Parameter]]:
    """What each parameter writes, by name, and the parameters; ``shared``: all environments have one model object."""

    def make(arguments: Mapping[str, Any]) -> gym.Env[Any, Any]:
        return make_env(spec, {**declaration.arguments, **arguments})

    targets: dict[str, Target] = {}
    parameters: list[Parameter] = []
    fixed = {**spec.kwargs, **declaration.arguments}
    for name, entry in declaration.parameters.items():
        target, own = resolve(name, entry, env, creator_of(spec), fixed, load, make)
        parameters.append(_parameter(name, entry, own))
        check_values(parameters[-1], target)
        if shared and isinstance(target, ModelField):
            raise MetaMapError(
                f"parameter {name!r}: all environments of {spec.id} hold one and the same MuJoCo model, so that a "
                "value of one task would be in every other; let the constructor load or copy it"
            )
        for other, taken in targets.items():
            if _place(taken) == _place(target):
                raise MetaMapError(f"the parameters {other!r} and {name!r} write the same thing")
        targets[name] = target
    return targets, parameters


def _check_arguments(declaration: Declaration, creator: Any, owner: str) -> None:
    """Refuse arguments that the constructor does not have, and text in place of a number."""
    known, others = argument_names(creator)
    for argument, value in declaration.arguments.items():
        if argument not in known and not others:
            raise MetaMapError(f"{owner}: {unknown_name('argument of the constructor', argument, known)}")
        _check_argument(owner, argument, value, known.get(argument))


def _check_argument(owner: str, name: str, value: object, own: object) -> None:
    """Refuse text that is a number where the constructor's own value is one: JSON and quotes make such text."""
    if isinstance(value, str) and isinstance(own, int | float) and not isinstance(own, bool):
        try:
            number = float(value)
        except ValueError:
            return  # the environment may read it
        raise MetaMapError(f"{owner}: arguments.{name}: {value!r} is text, expected a number: write {number:g}")


def _place(target: Target) -> Target:
    """What a target writes, whatever it writes there."""
    return replace(target, own=0.0, scale=False)


def find_spec(environment: str, owner: str, folder: Path) -> EnvSpec:
    """Gymnasium's spec of an id, importing the module that "module:id" names.

    Args:
        environment: the id.
        owner: what messages begin with.
        folder: where the module is looked for, besides Python's path.

    Raises:
        MetaMapError: no such module or id, or the module cannot be imported.
    """
    module, colon, name = environment.rpartition(":")
    try:
        if colon:
            import_user_module(module, f"{owner}: environment {environment!r}", folder)
        if name not in gym.registry:
            raise MetaMapError(f"{owner}: {unknown_name('Gymnasium environment', name, _closest_ids(name))}")
        return gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise MetaMapError(f"{owner}: environment {environment!r}: {one_line(error)}") from error


def _closest_ids(name: str) -> list[str]:
    """The few registered ids that a wrong one may have meant; there are far too many to list."""
    return get_close_matches(name, list(gym.registry), n=5, cutoff=0.5) or ["CartPole-v1", "HalfCheetah-v5"]


def _parameter(name: str, entry: ParameterEntry, own: float) -> Parameter:
    what = next(part for part in (entry.field, entry.option, entry.argument, entry.attribute) if part)
    of = f" of {entry.kind} {getattr(entry, entry.kind)}" if entry.field else ""
    return parameter_of(name, entry, own, f"{'factor on ' if entry.how == 'scale' else ''}{what}{of}")
