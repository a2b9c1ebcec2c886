"""What could be varied in a Gymnasium environment: arguments of its constructor, attributes, fields of a model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.from_gymnasium.building import find_spec
from metamap_envs.from_gymnasium.constructor import argument_names, as_number
from metamap_envs.from_gymnasium.declaration import ParameterEntry
from metamap_envs.from_gymnasium.fields import object_names, own_value
from metamap_envs.from_gymnasium.making import creator_of, make_env
from metamap_envs.from_gymnasium.models import loads, source_of
from metamap_envs.from_gymnasium.snapshot import episodes, held_number, quiet
from metamap_envs.user_env import close_user_env

__all__ = ["Candidate", "EnvCandidates", "find_candidates"]

_USUAL = {
    "body": ("mass",),
    "joint": ("damping", "armature", "frictionloss", "stiffness"),
    "geom": ("friction",),
    "actuator": ("kp", "kv", "gear"),
}
"""Fields that are offered; others can be written into the file by hand."""
_OPTIONS = ("gravity", "viscosity", "density")
_ELEMENT = {"friction": 0, "gear": 0, "gravity": 2}
"""Sliding friction, the force along the first axis, the pull downwards."""
_CLOSE = 5
_NOT_PHYSICS = re.compile(
    "render_mode|frame_skip|width|height|camera_id|max_geom|seed|isopen|(screen|include|exclude|terminate)_.*"
)
"""Names of what draws, ends or shapes an environment: they can be written into the file by hand."""


@dataclass(frozen=True)
class Candidate:
    """Something that a parameter could write."""

    name: str
    """Name of the parameter that is proposed for it."""
    target: Mapping[str, Any]
    """Keys of the parameter's declaration that say what it writes."""
    own: bool | int | float
    """The environment's own value."""

    @property
    def kind(self) -> str:
        """Which kind of target it is: "argument", "attribute", "body" and so on."""
        return next(iter(self.target))


@dataclass(frozen=True)
class EnvCandidates:
    """All that could be varied in an environment.

    Attributes:
        environment: its id, with the module that registers it.
        env_id: the id alone.
        time_limit: steps after which it truncates an episode by itself; None for no limit.
        found: by the name of the parameter that is proposed.
    """

    environment: str
    env_id: str
    time_limit: int | None
    found: Mapping[str, Candidate] = field(default_factory=dict)

    def choose(self, name: str) -> Candidate:
        """The candidate of a name, of which there may be far too many to list in a message.

        Raises:
            MetaMapError: there is none; the closest ones are named.
        """
        if name in self.found:
            return self.found[name]
        if not self.found:
            raise MetaMapError(f"environment {self.environment!r}: nothing in it can be varied")
        close = get_close_matches(name, self.found, n=_CLOSE, cutoff=0.4)
        offered = close or list(self.found)[:_CLOSE]
        error = unknown_name("parameter", name, offered, of=f"environment {self.environment!r}")
        raise MetaMapError(str(error).replace("valid choices are", "some valid choices are"))


def find_candidates(environment: str, folder: Path) -> EnvCandidates:
    """Look at an environment's constructor, attributes and MuJoCo model.

    Args:
        environment: Gymnasium id, or "module:id" to import the module that registers it.
        folder: where the module is looked for, besides Python's path.

    Raises:
        MetaMapError: no such environment, or it cannot be made.
    """
    spec = find_spec(environment, f"environment {environment!r}", folder)
    with quiet(), loads() as loaded:
        env = make_env(spec, {})
    load = source_of(loaded, getattr(env.unwrapped, "model", None))
    source = None if load is None else loaded[load].spec()
    found: dict[str, Candidate] = {}
    for candidate in [*_arguments(env, spec), *_attributes(env, spec), *_fields(env, source)]:
        name = candidate.name if candidate.name not in found else f"{candidate.kind}_{candidate.name}"
        found.setdefault(name, Candidate(name, candidate.target, candidate.own))
    close_user_env(env, f"environment {environment!r}")
    return EnvCandidates(environment, spec.id, spec.max_episode_steps, found)


def _arguments(env: gym.Env[Any, Any], spec: Any) -> Iterator[Candidate]:
    names, _ = argument_names(creator_of(spec))
    for name, default in {**names, **spec.kwargs}.items():
        own = as_number(default)
        own = held_number(env, name) if own is None and default is None else own
        if own is not None and not _NOT_PHYSICS.fullmatch(name):
            yield Candidate(name, {"argument": name}, own)


def _attributes(env: gym.Env[Any, Any], spec: Any) -> Iterator[Candidate]:
    """Numbers that the constructor or the class sets and that neither `reset` nor `step` writes."""
    if not inspect.isclass(creator_of(spec)):
        return
    base, taken = env.unwrapped, {name.strip("_") for name in argument_names(creator_of(spec))[0]}
    classes = [cls for cls in type(base).__mro__ if cls not in gym.Env.__mro__]
    names = dict.fromkeys([*vars(base), *(key for cls in classes for key in vars(cls))])
    before = {name: _attribute(base, name) for name in names if name[0] != "_" and not _NOT_PHYSICS.fullmatch(name)}
    with quiet(), suppress(Exception):  # whether it can be stepped at all is asked elsewhere
        list(episodes(env))
    for name, own in before.items():
        if own is not None and name.strip("_") not in taken and _attribute(base, name) == own:
            yield Candidate(name, {"attribute": name}, own)


def _attribute(base: Any, name: str) -> bool | int | float | None:
    computed = isinstance(inspect.getattr_static(base, name, None), property)
    return None if computed else as_number(getattr(base, name, None))


def _fields(env: gym.Env[Any, Any], source: Any) -> Iterator[Candidate]:
    """Fields of the environment's MuJoCo model that are not 0 and can be given another value."""
    model = getattr(env.unwrapped, "model", None)
    if not hasattr(model, "opt"):
        return
    for kind, fields in _USUAL.items():
        for name in object_names(model, kind):
            for each in fields:
                yield from _field(model, source, f"{name}_{each}", {kind: name, "field": each, **_element(each)})
    for option in _OPTIONS:
        yield from _field(model, source, option, {"option": option, **_element(option)})


def _element(field: str) -> dict[str, int]:
    return {"index": _ELEMENT[field]} if field in _ELEMENT else {}


def _field(model: Any, source: Any, name: str, target: dict[str, Any]) -> Iterator[Candidate]:
    try:
        own = own_value(ParameterEntry(**target), model, source)
    except MetaMapError:  # derived from something else, or not of this kind of actuator
        return
    if own != 0:
        yield Candidate(re.sub(r"\W+", "_", name).strip("_"), target, own)
