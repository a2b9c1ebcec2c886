"""Calls of a user's environment: what it returns is checked, what it raises becomes one sentence."""

from __future__ import annotations

import sysconfig
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, one_line
from metamap_envs.flat_observations import FlatObservations
from metamap_envs.simulator import UNSTABLE
from metamap_envs.values import one_flag, one_number, shown

__all__ = ["CheckedEnv", "close_user_env", "comes_from_users", "failure", "is_unstable", "make_user_env"]

Array = NDArray[np.float64]
_LARGEST = float(np.finfo(np.float32).max)
"""Of what policies compute in."""
_PROJECT = Path(__file__).parent.name
_STEP = "(observation, reward, terminated, truncated, info)"


class CheckedEnv:
    """A user's environment with flat observations in float64; anything that Gymnasium's API does not allow is refused.

    Args:
        env: with observations of type Box, or Dict of Boxes.
        label: what messages call it, e.g. "environment 'Pendulum-v1'".
        flat: how observations become flat; default: as the environment's own space has them.

    Raises:
        MetaMapError: observations of another type.
    """

    def __init__(self, env: gym.Env[Any, Any], label: str, flat: FlatObservations | None = None) -> None:
        self.env = env
        self.label = label
        self._flat = flat or FlatObservations(env.observation_space, label)
        self.size = self._flat.size
        self.steps = 0
        """Of this episode."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode: (observation [O], info).

        Raises:
            MetaMapError: `reset` raises, or returns something else than a finite observation and a dictionary.
        """
        self.steps = 0
        if seed is not None:  # also for an environment that forgets to hand the seed on to Gymnasium's generator
            self.env.unwrapped.np_random, _ = seeding.np_random(seed)
        result = self._called(lambda: self.env.reset(seed=seed, options=options))
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
            raise self._wrong(f"reset() expected to return (observation, info), got {shown(result)}")
        observation = self._observation(result[0])
        if not _are_finite(observation):
            raise self._not_finite("observation", observation)
        return observation, dict(result[1])

    def step(self, action: Any, *, unstable_is_an_end: bool = False) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step, with Gymnasium's five parts: observation [O] in float64, reward and ends as Python's own types.

        Args:
            action: as the environment takes it.
            unstable_is_an_end: hand out what is not finite where MuJoCo found the physics unstable.

        Raises:
            MetaMapError: `step` raises, returns something else, or a number that is not finite.
        """
        self.steps += 1
        result = self._called(lambda: self.env.step(action))
        if not isinstance(result, tuple) or len(result) != 5:
            old = "; it has the API of Gym before 0.26" if isinstance(result, tuple) and len(result) == 4 else ""
            raise self._wrong(f"step() expected to return {_STEP}, got {shown(result)}{old}")
        observation, info = self._observation(result[0]), result[4]
        reward = self._number("reward", result[1])
        if not (_are_finite(observation) and _are_finite(reward)):
            unstable = is_unstable(self.env)
            if unstable and not unstable_is_an_end:
                raise self._wrong("MuJoCo found the physics unstable")
            if not unstable:
                raise self._not_finite(
                    *(("reward", reward) if not _are_finite(reward) else ("observation", observation))
                )
        if not isinstance(info, Mapping):
            raise self._wrong(f"info expected a dictionary, got {shown(info)}")
        return observation, reward, self._flag("terminated", result[2]), self._flag("truncated", result[3]), dict(info)

    # inside -------------------------------------------------------------------------------------------------------

    def _called(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (MetaMapError, Warning):  # warnings turned into errors by the user's filters
            raise
        except (Exception, SystemExit) as error:
            raise self._wrong(failure(error)) from error

    def _wrong(self, what: str) -> MetaMapError:
        where = f"step {self.steps} of the episode" if self.steps else "reset"
        return MetaMapError(f"{self.label}, {where}: {what}")

    def _not_finite(self, what: str, value: Array | float) -> MetaMapError:
        numbers = np.ravel(value)
        wrong = numbers[~(np.abs(numbers) <= _LARGEST)]
        number = "NaN" if np.isnan(wrong).any() else "infinite" if np.isinf(wrong).any() else "beyond float32"
        some = f" in {len(wrong)} of {np.size(value)} numbers" if np.size(value) > 1 else ""
        return self._wrong(f"the environment's {what} is {number}{some}; expected finite numbers")

    def _observation(self, value: object) -> Array:
        try:
            return self._flat(value)
        except MetaMapError as error:
            raise self._wrong(str(error)) from None

    def _number(self, what: str, value: object) -> float:
        try:
            return one_number(what, value)
        except MetaMapError as error:
            raise self._wrong(str(error)) from None

    def _flag(self, what: str, value: object) -> bool:
        try:
            return one_flag(what, value)
        except MetaMapError as error:
            raise self._wrong(str(error)) from None


def make_user_env(make: Callable[[], gym.Env[Any, Any]], label: str) -> gym.Env[Any, Any]:
    """Make an environment; whatever its module or constructor raises becomes one sentence.

    Args:
        make: makes it.
        label: what messages call it.

    Raises:
        MetaMapError: it cannot be made, or is not a Gymnasium environment.
    """
    try:
        env = make()
    except (MetaMapError, Warning):
        raise
    except (Exception, SystemExit) as error:
        raise MetaMapError(f"{label}: it cannot be made: {failure(error)}") from error
    if not isinstance(env, gym.Env):
        raise MetaMapError(f"{label}: expected an environment of Gymnasium (gymnasium.Env), got {type(env).__name__}")
    return env


def close_user_env(env: gym.Env[Any, Any], label: str) -> None:
    """Close an environment; what that raises becomes a warning, since nothing depends on it.

    Args:
        env: the environment.
        label: what messages call it.
    """
    try:
        env.close()
    except Warning:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's code may raise anything
        warnings.warn(f"{label}: closing it failed: {failure(error)}", stacklevel=2)


def comes_from_users(error: BaseException) -> bool:
    """Whether an exception was raised in the code of a user."""
    return any(_is_users(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def failure(error: BaseException) -> str:
    """What an exception of a user's code says, with its type and the place in that code, as part of a sentence."""
    if isinstance(error, gym.error.Error | ImportError):
        return one_line(error)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {one_line(error)}".rstrip(": ") + where


def _is_users(file_name: str) -> bool:
    """Whether a file is neither of this project nor of an installed library."""
    path = Path(file_name)
    library = {"site-packages", "dist-packages", Path(sysconfig.get_path("stdlib")).name} & set(path.parts)
    return path.is_file() and not library and _PROJECT not in path.parts


def is_unstable(env: gym.Env[Any, Any]) -> bool:
    """Whether MuJoCo found the physics of an environment unstable since its last reset; False without MuJoCo."""
    warning = getattr(getattr(env.unwrapped, "data", None), "warning", None)
    try:
        return warning is not None and any(warning[kind].number for kind in UNSTABLE)
    except (TypeError, LookupError, AttributeError):  # some other thing of that name
        return False


def _are_finite(value: Array | float) -> bool:
    return bool(np.all(np.abs(value) <= _LARGEST))  # False for NaN
