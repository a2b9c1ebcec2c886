"""A user's environment with the observations and actions of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as DictSpace
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.flat_observations import FlatObservations
from metamap_envs.from_gymnasium.actions import CHOICES, ActionMap, check_actions, choices_of
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.state import Array
from metamap_envs.user_env import CheckedEnv
from metamap_envs.values import shown

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.family import GymnasiumFamily

__all__ = ["FamilySpaces", "actions_for", "as_declared", "name_of", "observations_for"]


class FamilySpaces(gym.Wrapper[Array, NDArray[Any], Any, Any]):
    """Gives an environment the observation and action space of a family, as its mappers and policies know them.

    A family that is declared for ``Pendulum-v1`` or ``CartPole-v1`` scales, flattens and chooses (`GymnasiumFamily`);
    this does the same around any environment that has the spaces of the declared one. What the environment returns is
    checked: see `metamap_envs.user_env`.

    Args:
        env: with the family's observations and actions, or, of a declared family, with those of its own environment:
            observations of its shape, a Dict with its keys in any order; a Box of actions of its shape, with bounds of
            its own, or as many alternatives in each choice.
        family: the family or its name.

    Raises:
        MetaMapError: no environment, or its spaces are others.
    """

    def __init__(self, env: gym.Env[Any, Any], family: Family | str) -> None:
        family = get_family(family) if isinstance(family, str) else family
        if not isinstance(env, gym.Env):
            raise MetaMapError(f"expected an environment of Gymnasium (gymnasium.Env), got {shown(env)}")
        flat, self._take = observations_for(env, family), actions_for(env, family)
        super().__init__(env)
        self.observation_space: gym.Space[Any] = observation_space(family)
        self.action_space: gym.Space[Any] = action_space(family)
        self._checked = CheckedEnv(env, f"environment {name_of(env)!r}", flat)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode: a flat observation [O] in float64, and the environment's own info."""
        return self._checked.reset(seed, options)

    def step(self, action: NDArray[Any]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step with an action [A] of the family."""
        action = np.array(action)  # a copy: an environment may write into it
        return self._checked.step(action if self._take is None else self._take(action))


def observations_for(env: gym.Env[Any, Any], family: Family) -> FlatObservations:
    """How observations of an environment become those of a family.

    Raises:
        MetaMapError: their space is another; the message says in what.
    """
    seen = env.observation_space
    plain = FlatObservations(observation_space(family))
    declared = as_declared(family)
    own = plain if declared is None else declared.own_observations
    if seen.shape == plain.space.shape and isinstance(seen, Box):
        _check_flattened(env, own, family)
        return plain
    try:
        found = FlatObservations(seen)
    except MetaMapError:
        raise _refused(f"are {seen}, expected {own.space}", family) from None
    if difference := own.differences(found):
        raise _refused(difference, family)
    return own


def _refused(difference: str, family: Family) -> MetaMapError:
    return MetaMapError(f"the environment's observations {difference}, as those of {family.name!r}")


def _check_flattened(env: gym.Env[Any, Any], own: FlatObservations, family: Family) -> None:
    """Refuse a Dict that a wrapper of Gymnasium has flattened in another order than the family's."""
    while isinstance(env, gym.Wrapper):
        inner = env.env.observation_space
        if isinstance(env, FlattenObservation) and isinstance(inner, DictSpace) and own.is_dict:
            keys, ours = list(inner.spaces), list(dict.fromkeys(part.keys[0] for part in own.parts))
            if keys != ours:
                raise _refused(
                    f"are flattened in the order {', '.join(keys)}, expected {', '.join(ours)} (or the environment "
                    "without FlattenObservation, which is read by its keys)",
                    family,
                )
        env = env.env


def actions_for(env: gym.Env[Any, Any], family: Family) -> ActionMap | None:
    """How an environment takes the actions of a family, None for as they are, after checking that it has the space.

    Raises:
        MetaMapError: its action space is another.
    """
    name, given, ours = family.name, env.action_space, action_space(family)
    declared = as_declared(family)
    own = None if declared is None else declared.own_spaces[1]
    if _same_box(given, ours):
        return None
    if own is not None and _alike(given, own):
        check_actions(env, f"environment {name_of(env)!r}")
        return ActionMap(given)
    if isinstance(given, Box) and given.shape != ours.shape:
        raise MetaMapError(f"the environment's actions have shape {given.shape}, expected {ours.shape}")
    advice = f", and its own environment's {own}" if own is not None else ""
    if isinstance(given, Box) and given.dtype.kind == "f":
        advice += ": gymnasium.wrappers.RescaleAction(env, low, high) makes them so"
    raise MetaMapError(f"the environment's actions are {given}, those of {name!r} {ours}{advice}")


def as_declared(family: Family) -> GymnasiumFamily | None:
    """The family if it is declared for an environment of Gymnasium, else None."""
    from metamap_envs.from_gymnasium.family import GymnasiumFamily  # imports pydantic

    return family if isinstance(family, GymnasiumFamily) else None


def name_of(env: gym.Env[Any, Any]) -> str:
    """Id of an environment, or the name of its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _same_box(space: gym.Space[Any], ours: Box) -> bool:
    """Whether actions of a family are taken as they are."""
    return (
        isinstance(space, Box)
        and space.dtype.kind == "f"
        and space.shape == ours.shape
        and np.allclose(space.low, ours.low)
        and np.allclose(space.high, ours.high)
    )


def _alike(space: gym.Space[Any], own: gym.Space[Any]) -> bool:
    """Whether a space is like that of a declared family's own environment, apart from where it starts and ends."""
    if isinstance(own, CHOICES):
        return type(space) is type(own) and space.shape == own.shape and choices_of(space) == choices_of(own)
    if not (isinstance(space, Box) and isinstance(own, Box)):
        return False
    whole = [each.dtype.kind in "iub" for each in (space, own)]
    flat = (int(np.prod(own.shape)),)
    return space.shape in (own.shape, flat) and whole[0] == whole[1]
