"""Detection of wrappers that alter the rewards or observations of an environment.

A mapper is trained on the rewards and observations of its family. Other units are not always visible in D, but the
wrappers of an environment can be inspected before it is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from metamap_envs.from_gymnasium.family import GymnasiumFamily
from metamap_envs.registry import get_family
from metamap_envs.user_env import close_user_env

__all__ = ["Alteration", "alterations", "normalises"]

_GYMNASIUM = "gymnasium.wrappers"

_HARMLESS = frozenset(
    f"{_GYMNASIUM}.{name}"
    for name in (
        "common.Autoreset",  # the probe resets at the end of an episode
        "common.OrderEnforcing",
        "common.PassiveEnvChecker",
        "common.RecordEpisodeStatistics",
        "common.TimeLimit",
        "array_conversion.ArrayConversion",
        "jax_to_numpy.JaxToNumpy",
        "rendering.AddWhiteNoise",  # only rendered frames
        "rendering.HumanRendering",
        "rendering.ObstructView",
        "rendering.RecordVideo",
        "rendering.RenderCollection",
        "transform_observation.FlattenObservation",  # same values
        "transform_observation.ReshapeObservation",
    )
) | {
    "stable_baselines3.common.monitor.Monitor",
    "metamap_envs.family_spaces.FamilySpaces",
    "metamap_envs.scheduled.ScheduledTasks",
}
"""Wrappers that do not change the values of rewards and observations."""

_ALTERED = {
    "stateful_action.RepeatAction": "rewards and the length of a step",
    "stateful_action.StickyAction": "the time at which actions take effect",
    "stateful_observation.FrameStackObservation": "observations",
    "stateful_observation.MaxAndSkipObservation": "observations, rewards and the length of a step",
    "stateful_observation.TimeAwareObservation": "observations",
}
"""Alterations by other wrappers of Gymnasium, where their base class does not determine them."""

_BASES = (gym.Wrapper, gym.RewardWrapper, gym.ObservationWrapper, gym.ActionWrapper)


@dataclass(frozen=True)
class Alteration:
    """A wrapper that alters rewards or observations.

    Attributes:
        name: class name.
        what: altered quantity, e.g. "rewards".
        drifts: whether the alteration changes over time, as with running statistics.
        certain: False if it only overrides methods that could alter them.
    """

    name: str
    what: str
    drifts: bool = False
    certain: bool = True

    def __str__(self) -> str:
        if self.drifts:
            return f"the wrapper {self.name} changes the scale of {self.what} while D is collected"
        verb = "alters" if self.certain else "may alter"
        return f"the wrapper {self.name} {verb} {self.what}, and the mapper knows only those of its family"


def alterations(env: gym.Env[Any, Any], family: str) -> tuple[Alteration, ...]:
    """Wrappers of an environment that alter its rewards or observations, innermost first.

    Excludes wrappers of actions, which are part of the dynamics, and the wrappers of a declared family's environment.

    Args:
        env: the environment; not changed.
        family: name of the family.
    """
    found = _alterations(env)
    declared = get_family(family)
    if not found or not isinstance(declared, GymnasiumFamily):
        return found
    own = declared.make(declared.task())
    try:
        names = [alteration.name for alteration in _alterations(own)]
    finally:
        close_user_env(own, declared.label(declared.task()))
    for name in names:
        if not found or found[0].name != name:
            break
        found = found[1:]
    return found


def _alterations(env: gym.Env[Any, Any]) -> tuple[Alteration, ...]:
    found: list[Alteration] = []
    while isinstance(env, gym.Wrapper):
        what, certain = _altered(env)
        if what:
            found.append(Alteration(type(env).__name__, what, _drifts(env), certain))
        env = env.env
    return tuple(reversed(found))


def _altered(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> tuple[str, bool]:
    """Quantity that a wrapper alters, "" for none, and whether this is certain."""
    kind = _path(type(wrapper))
    if kind in _HARMLESS or (kind == f"{_GYMNASIUM}.transform_observation.DtypeObservation" and _floats(wrapper)):
        return "", True
    if kind.removeprefix(f"{_GYMNASIUM}.") in _ALTERED:
        return _ALTERED[kind.removeprefix(f"{_GYMNASIUM}.")], True
    known = {
        "rewards": isinstance(wrapper, gym.RewardWrapper) or normalises(wrapper, "Reward"),
        "observations": isinstance(wrapper, gym.ObservationWrapper) or normalises(wrapper, "Observation"),
    }
    if any(known.values()):
        return _listed(known), True
    step, reset = _own(wrapper, "step"), _own(wrapper, "reset")  # whatever it does, it does there
    return _listed({"rewards": step, "observations": step or reset}), False


def _drifts(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether a wrapper updates running statistics, as Gymnasium's normalisation wrappers do."""
    running = any("RunningMean" in type(value).__name__ for value in vars(wrapper).values())
    running = running or normalises(wrapper, "Reward") or normalises(wrapper, "Observation")
    return running and bool(getattr(wrapper, "update_running_mean", True))


def normalises(wrapper: object, what: str) -> bool:
    """Whether a wrapper is one of Gymnasium's that normalise "Reward" or "Observation", or its subclass."""
    return any(cls.__name__ == f"Normalize{what}" for cls in type(wrapper).__mro__)


def _own(wrapper: gym.Wrapper[Any, Any, Any, Any], method: str) -> bool:
    """Whether a method is overridden, other than by a wrapper that does not alter rewards and observations."""
    definer = next(cls for cls in type(wrapper).__mro__ if method in vars(cls))
    return definer not in _BASES and _path(definer) not in _HARMLESS


def _listed(chosen: dict[str, bool]) -> str:
    return " and ".join(word for word, is_so in chosen.items() if is_so)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _floats(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether observations are floats of at least the mapper's precision."""
    dtype = np.dtype(wrapper.observation_space.dtype)
    return np.issubdtype(dtype, np.floating) and dtype.itemsize >= np.dtype(np.float32).itemsize
