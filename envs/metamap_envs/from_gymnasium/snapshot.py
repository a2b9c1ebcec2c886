"""State and behaviour of an environment in numbers, to compare two environments."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium as gym
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.constructor import as_number

__all__ = ["as_lists", "episodes", "first_steps", "held_number", "numbers_of", "own_argument", "quiet"]

_STEPS = 2
_DEPTH = 4
_SKIPPED = ("spec", "np_random", "_np_random", "_np_random_seed", "env", "_metamap_constructed")

Make = Callable[[Mapping[str, Any]], gym.Env[Any, Any]]


def own_argument(name: str, default: Any, make: Make) -> Any:
    """The environment's own value of an argument of its constructor.

    The default of a signature is not always it: a subclass may pass another one on, or put a number in place of None.

    Args:
        name: of the argument.
        default: what signature, id or declaration say; None if none of them gives a number.
        make: makes the environment with more arguments.

    Returns:
        The number that makes the same environment as passing nothing; None if neither the default nor the attribute of
        that name is one.
    """
    with quiet():
        own = make({})
        held = held_number(own, name)
        candidates = [each for each in (default, held) if each is not None]
        if not candidates or (default is not None and held == default):
            return default
        numbers = numbers_of(own)
        again = numbers_of(make({}))
        steady = {key for key, value in numbers.items() if again.get(key) == value}
        for candidate in candidates:
            with suppress(MetaMapError):
                given = numbers_of(make({name: candidate}))
                names = {key for key in steady | (given.keys() - again.keys()) if key.rpartition(".")[2] != name}
                if all(given.get(key) == numbers.get(key) for key in names):
                    return candidate
    return None


def first_steps(env: gym.Env[Any, Any]) -> list[Any]:
    """Observations and rewards of a few steps."""
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    found: list[Any] = [as_lists(observation)]
    for _ in range(_STEPS):
        observation, reward, terminated, *_ = env.step(env.action_space.sample())
        found += [as_lists(observation), float(reward), bool(terminated)]
        if terminated:
            break
    return found


def episodes(env: gym.Env[Any, Any], steps: int = 10) -> Iterator[list[Any]]:
    """Reset an environment twice and step it after each reset with random actions; the same each time.

    Args:
        env: an environment.
        steps: after each reset, if the episode is that long.

    Yields:
        After each reset and each step, what it gave in numbers.
    """
    env.action_space.seed(0)
    for seed in (0, 1):
        observation, _ = env.reset(seed=seed)
        yield [as_lists(observation)]
        for _ in range(steps):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            yield [as_lists(observation), float(reward), bool(terminated), bool(truncated)]
            if terminated or truncated:
                break


def as_lists(observation: Any) -> Any:
    """An observation, also one with keys, as lists of numbers, which can be compared and shown in full."""
    if isinstance(observation, Mapping):
        return {str(key): as_lists(value) for key, value in observation.items()}
    return np.array(observation).tolist()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings of an environment, which it gives again when it is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def held_number(env: gym.Env[Any, Any], argument: str) -> Any:
    """The number that an environment keeps under an argument's name, as Gymnasium's do; None if there is none."""
    base = env.unwrapped
    for name in (argument, f"_{argument}"):
        found = as_number(getattr(base, name, None))
        if found is not None:
            return found
    return None


def numbers_of(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """All numbers and texts that an environment and its wrappers hold, by their place."""
    found: dict[str, Any] = {}
    layer, level = env, 0
    while True:
        _collect(vars(layer), f"{level}", found, _DEPTH, set())
        if layer is env.unwrapped:
            return found
        layer, level = layer.env, level + 1  # type: ignore[attr-defined]


def _collect(value: Any, place: str, found: dict[str, Any], depth: int, seen: set[int]) -> None:
    if as_number(value) is not None or isinstance(value, str | bytes):
        found[place] = repr(value)
    elif isinstance(value, np.ndarray):
        found[place] = repr(value.tolist()) if value.dtype.kind in "biufS" else ""
    elif depth and id(value) not in seen:
        seen.add(id(value))
        for key, part in _parts(value):
            if key not in _SKIPPED and not key.startswith("_ezpickle"):
                _collect(part, f"{place}.{key}", found, depth - 1, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, Sequence | set | frozenset):
        yield from ((str(index), part) for index, part in enumerate(value))
    elif hasattr(value, "opt") and hasattr(value, "nq"):  # a model of MuJoCo
        arrays = (key for key in dir(value) if key[0] != "_" and not key.startswith("tex_"))
        yield from ((key, getattr(value, key)) for key in arrays if isinstance(getattr(value, key), np.ndarray | int))
        yield from ((f"opt.{key}", getattr(value.opt, key)) for key in dir(value.opt) if key[0] != "_")
    elif not inspect.isroutine(value) and not inspect.isclass(value) and not inspect.ismodule(value):
        slots = [key for cls in type(value).__mro__ for key in np.atleast_1d(getattr(cls, "__slots__", ())).tolist()]
        yield from ((key, getattr(value, key)) for key in slots if hasattr(value, key) and key[:2] != "__")
        yield from getattr(value, "__dict__", {}).items()
