"""What is unusual about the spaces of an environment that has the shapes of a family's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from metamap_envs.family import Family
from metamap_envs.family_spaces import as_declared
from metamap_envs.flat_observations import FlatObservations
from metamap_envs.user_env import close_user_env

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.family import GymnasiumFamily

__all__ = ["space_notes"]

_Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def space_notes(env: gym.Env[Any, Any], family: Family) -> tuple[str, ...]:
    """Types and bounds that differ from those of a declared family's own environment, a sentence each.

    Bounds that a parameter of the family changes are no difference: they are looked up at the ends of its range.

    Args:
        env: with spaces that fit the family; not stepped.
        family: only declared ones know bounds of observations.
    """
    declared = as_declared(family)
    if declared is None:
        return ()
    own_seen, own_given = declared.own_spaces
    notes = [*_type_notes(env.observation_space, declared.own_observations)]
    bounds = _observation_bounds(env.observation_space, declared.own_observations)
    if not _equal(bounds, _observation_bounds(own_seen, declared.own_observations)):
        reach = [_observation_bounds(seen, declared.own_observations) for seen, _ in _reach(declared)]
        notes += _bound_notes("observation", bounds, reach, "the mapper knows those of the family")
    if isinstance(env.action_space, Box) and not _equal(_bounds(env.action_space), _bounds(own_given)):
        reach = [_bounds(given) for _, given in _reach(declared)]
        notes += _bound_notes("action", _bounds(env.action_space), reach, "actions are scaled to its range")
    return tuple(notes)


def _type_notes(seen: gym.Space[Any], own: FlatObservations) -> Iterator[str]:
    """A note where one of two spaces holds whole numbers, part by part."""
    theirs = {part.name: part.space for part in FlatObservations(seen).parts}
    for part in own.parts:
        given = theirs.get(part.name)
        if given is not None and (given.dtype.kind == "f") != (part.space.dtype.kind == "f"):
            where = f" at {part.name!r}" if part.name else ""
            yield (
                f"the environment's observations{where} are of type {given.dtype}, those of the family's environment "
                f"of type {part.space.dtype}"
            )


def _bound_notes(what: str, found: _Bounds, reach: list[_Bounds], means: str) -> Iterator[str]:
    """A note on the first number with finite bounds that none of the family's tasks leads to."""
    strange = np.zeros(len(found[0]), dtype=np.bool_)
    for end in (0, 1):
        ends = np.array([each[end] for each in reach])
        low, high = ends.min(axis=0), ends.max(axis=0)
        between = (found[end] >= low) & (found[end] <= high)
        strange |= ~(between | _close(found[end], low) | _close(found[end], high))
    for index in np.flatnonzero(strange & np.isfinite(found[0]) & np.isfinite(found[1]))[:1]:
        own = reach[0]
        yield (
            f"{what} {index} of the environment ranges over [{found[0][index]:g}, {found[1][index]:g}], that of the "
            f"family's over [{own[0][index]:g}, {own[1][index]:g}]; {means}"
        )


def _reach(family: GymnasiumFamily) -> Iterator[tuple[gym.Space[Any], gym.Space[Any]]]:
    """Spaces of the family's environments: at the defaults, and at the ends of each parameter's range."""
    yield family.own_spaces
    for parameter in family.space.parameters:
        for value in (parameter.low, parameter.high):
            task = family.task({parameter.name: value})
            env = family.make(task)
            yield env.observation_space, env.action_space
            close_user_env(env, family.label(task))


def _observation_bounds(seen: gym.Space[Any], own: FlatObservations) -> _Bounds:
    """Bounds [O] of a space's observations in the order of the family's."""
    spaces = {part.name: part.space for part in FlatObservations(seen).parts}
    found = [spaces[part.name] for part in own.parts] if own.parts[0].name in spaces else [*spaces.values()]
    lows, highs = zip(*map(_bounds, found), strict=True)
    return np.concatenate(lows), np.concatenate(highs)


def _bounds(space: gym.Space[Any]) -> _Bounds:
    """Bounds of a Box as flat arrays."""
    assert isinstance(space, Box), "it fits"
    return np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)


def _equal(one: _Bounds, other: _Bounds) -> bool:
    return all(_close(*ends).all() for ends in zip(one, other, strict=True))


def _close(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isclose(one, other, rtol=1e-4)
