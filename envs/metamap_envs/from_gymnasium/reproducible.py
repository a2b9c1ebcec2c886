"""Whether a user's environment is reproducible after the same seed: tried once, since nothing declares it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.user_env import CheckedEnv, close_user_env

__all__ = ["Reproducibility", "try_out"]

_STEPS = 3
_SEED = 1


@dataclass(frozen=True)
class Reproducibility:
    """Result of a trial.

    Attributes:
        goes_on: whether resets without a seed follow from the last seed, as Gymnasium asks for; where they do not, each
            reset needs a seed.
        complaint: what differs after the same seed, as a clause; "" if nothing does.
    """

    goes_on: bool = True
    complaint: str = ""


@dataclass(frozen=True)
class _Trial:
    start: NDArray[np.float64]
    steps: NDArray[np.float64]
    next_start: NDArray[np.float64]


def try_out(make: Callable[[], CheckedEnv]) -> Reproducibility:
    """Reset and step two environments, one of them twice, with the same seed and actions.

    Args:
        make: makes the environment, fresh each time.

    Returns:
        What was found; an environment that fails here will say so where it is used, and nothing is found about it.
    """
    with _global_generators_kept():
        try:
            one, other = make(), make()
            trials = [_trial(one), _trial(one), _trial(other)]
            for each in (one, other):
                close_user_env(each.env, each.label)
        except MetaMapError:
            return Reproducibility()
    first = trials[0]

    def differs(part: str) -> bool:
        return any(not np.array_equal(getattr(first, part), getattr(each, part)) for each in trials[1:])

    if differs("start"):
        return Reproducibility(goes_on=False, complaint="two resets with the same seed start differently")
    if differs("steps"):
        return Reproducibility(complaint="the same actions after a reset with the same seed do not lead to the same")
    return Reproducibility(goes_on=not differs("next_start"))


def _trial(env: CheckedEnv) -> _Trial:
    actions = ActionMap(env.env.action_space)
    start, _ = env.reset(_SEED)
    rows = []
    for step in range(_STEPS):
        action = np.full(actions.size, 0.3 * (-1.0) ** step, dtype=np.float32)
        observation, reward, terminated, truncated, _ = env.step(actions(action), unstable_is_an_end=True)
        rows.append([*observation, reward])
        if terminated or truncated:
            break
    return _Trial(start, np.array(rows), env.reset()[0])


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """An environment that draws from them must not move them here."""
    states: tuple[Any, Any] = random.getstate(), np.random.get_state()  # noqa: NPY002  # theirs, not ours
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
