"""Interface of external learners of a benchmark, and checks of their budgets."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, one_line

__all__ = ["METHODS", "N_STEPS", "Policy", "StreamLearner", "Transitions", "check_rollout", "describe_error"]

METHODS = ("learn", "policy", "save")
"""Required methods of a learner class."""

N_STEPS = {"a2c": 5, "ppo": 2048, "trpo": 2048}
"""Default ``n_steps`` of the libraries, in steps per environment."""


class Transitions(Protocol):
    """Transitions D of one task, in order, as of `metamap_envs.rollout.Rollout`."""

    @property
    def observations(self) -> NDArray[Any]:
        """[n, O]."""
        ...

    @property
    def actions(self) -> NDArray[Any]:
        """[n, A]; [n] of a Discrete."""
        ...

    @property
    def rewards(self) -> NDArray[Any]:
        """[n]."""
        ...

    @property
    def next_observations(self) -> NDArray[Any]:
        """[n, O], before a reset."""
        ...

    @property
    def terminated(self) -> NDArray[Any]:
        """Bool [n]."""
        ...

    @property
    def truncated(self) -> NDArray[Any]:
        """Bool [n]."""
        ...


class Policy(Protocol):
    """Stable-Baselines3's ``predict``, for a batch of observations."""

    def predict(self, observation: NDArray[np.float32], /) -> tuple[NDArray[Any], Any]:
        """Actions [n, A] ([n] of a Discrete) for observations [n, O], and an unused state."""
        ...


@runtime_checkable
class StreamLearner(Protocol):
    """Interface of external learners; constructed with ``seed=``, the source of all random numbers, and settings."""

    def learn(self, env: gym.Env[Any, Any], steps: int) -> None:
        """Train on the current task, for at most ``steps`` environment steps.

        Called several times per task, to measure the learning curve, with the same ``env`` object; a new object is a
        new arrival.

        Args:
            env: a Gymnasium environment with a time limit, to be reset before the first step. Embodiments, and with
                them the sizes of observations and actions, may differ between tasks of families.
            steps: maximum number of environment steps.
        """
        ...

    def policy(self, env: gym.Env[Any, Any], rollout: Transitions) -> Policy:
        """Return a policy for a task, seen before or not, given transitions D of it.

        Args:
            env: environment with the task's spaces; the task is hidden.
            rollout: D, of 0 or more transitions; most external learners ignore it.
        """
        ...

    def save(self, folder: Path) -> None:
        """Save everything kept between tasks to an empty folder; its size is the learner's MEM."""
        ...


def check_rollout(algorithm: str, setting: str, value: int, others: str, each: int, steps: int) -> None:
    """Raise an error for an algorithm that would never learn, because one rollout exceeds the steps on a task.

    Args:
        algorithm: name of the algorithm.
        setting: name of the setting for the length of a rollout.
        value: value of the setting.
        others: description of its factor.
        each: value of the factor.
        steps: environment steps on each task.

    Raises:
        MetaMapError: one rollout exceeds ``steps``.
    """
    if value * each <= steps:
        return
    less = f", or {setting} of at most {steps // each}" if steps >= each > 0 else ""
    raise MetaMapError(
        f"{algorithm}: one rollout takes {setting} x {others} = {value} x {each} = {value * each} environment steps, "
        f"but steps is {steps} for each task, so it would never learn: expected steps of at least {value * each}{less}"
    )


def describe_error(error: BaseException) -> str:
    """Describe an exception of user code, with its line, in one sentence."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}".removesuffix(": ") + where
