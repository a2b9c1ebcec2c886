"""What a benchmark asks of a learner that is not the mapper: its methods, and budgets that it can keep."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.rollout import Rollout

__all__ = ["METHODS", "N_STEPS", "Policy", "StreamLearner", "check_rollout", "describe_error"]

METHODS = ("learn", "policy", "save")
"""What a class must have."""

N_STEPS = {"a2c": 5, "ppo": 2048, "trpo": 2048}
"""Steps of a rollout in each environment where the settings have no ``n_steps``: the defaults of the libraries."""


class Policy(Protocol):
    """Stable-Baselines3's ``predict``, for several observations at once."""

    def predict(self, observation: NDArray[np.float32], /) -> tuple[NDArray[Any], Any]:
        """Actions [n, A] of observations [n, O], and a state that is not used."""
        ...


@runtime_checkable
class StreamLearner(Protocol):
    """A learner that goes through a stream; made with ``seed=``, from which all that it draws comes, and settings."""

    def learn(self, env: gym.Env[Any, Any], steps: int) -> None:
        """Learn on the task that has arrived, taking at most so many environment steps.

        It is called several times for one task, so that its learning curve can be measured; ``env`` is then the same
        object. Another object is another arrival.

        Args:
            env: a Gymnasium environment with the family's horizon, to be reset before the first step. Robots may differ
                from task to task, and with them the sizes of observations and actions.
            steps: at most.
        """
        ...

    def policy(self, env: gym.Env[Any, Any], rollout: Rollout) -> Policy:
        """A policy for some task, seen before or not, given a few transitions D of it.

        Args:
            env: tells the spaces, and nothing else: its task is hidden.
            rollout: D, of 0 or more transitions; most learners from elsewhere ignore it.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write everything that is kept from task to task into an empty folder: its bytes are the learner's MEM."""
        ...


def check_rollout(algorithm: str, setting: str, value: int, others: str, each: int, steps: int) -> None:
    """Refuse an algorithm that would never learn, since one rollout does not fit into the steps on a task.

    Args:
        algorithm: its name.
        setting: what the length of a rollout is set by.
        value: of it.
        others: what it is multiplied by, in words.
        each: the same as a number.
        steps: environment steps on each task.

    Raises:
        MetaMapError: it does not fit.
    """
    if value * each <= steps:
        return
    less = f", or {setting} of at most {steps // each}" if steps >= each > 0 else ""
    raise MetaMapError(
        f"{algorithm}: one rollout takes {setting} x {others} = {value} x {each} = {value * each} environment steps, "
        f"but steps is {steps} for each task, so it would never learn: expected steps of at least {value * each}{less}"
    )


def describe_error(error: Exception) -> str:
    """What went wrong in somebody else's code, and in which of its lines, as one sentence."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
