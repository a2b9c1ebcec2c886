"""The decision whether environments are stepped by worker processes, from what their steps have taken so far."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.from_gymnasium.workers import IN_WORKER
from metamap_envs.simulator import default_threads

__all__ = ["PATIENCE", "TRIAL", "WORTH", "Placement", "is_as_loaded"]

WORTH = 200e-6
"""Seconds of a step above which workers are worth their messages."""
PATIENCE = 1.0
"""Seconds of stepping after which they are worth their start, which takes about as long."""
TRIAL = 2.0
"""Seconds of stepping with workers after which those that do not help are ended."""
_SEEN: dict[str, float] = {}
"""When files of environments' classes were last changed, as of the first look at them."""


class Placement:
    """Counts what steps take, and says when to start workers and when to end them.

    Whether steps are long is told by the processor's time, so that a busy machine does not make environments look slow;
    whether workers help, by the clock.

    Args:
        count: number of environments.
        num_threads: processes that may step; 0 for one on each core.

    Attributes:
        processes: how many may step, this one included.
        settled: whether it stays as it is.
    """

    def __init__(self, count: int, num_threads: int) -> None:
        self.processes = min(num_threads or default_threads(), count)
        self.settled = self.processes < 2 or os.name != "posix" or not sys.executable or IN_WORKER in os.environ
        self._alone = 0.0
        self._cpu, self._seconds, self._steps = 0.0, 0.0, 0

    def note(self, cpu: float, seconds: float, steps: int) -> None:
        """Count steps of single environments, their time of this process's processor, and that of the clock."""
        self._cpu += cpu
        self._seconds += seconds
        self._steps += steps

    def pays(self) -> bool:
        """Whether workers should be started."""
        return not self.settled and self._cpu >= PATIENCE and self._cpu >= WORTH * self._steps

    def begin_trial(self) -> None:
        """Workers have begun to step."""
        self._alone = self._seconds / max(1, self._steps)
        self._cpu, self._seconds, self._steps = 0.0, 0.0, 0

    def fails(self) -> bool:
        """Whether workers should be ended, as they have not made steps faster."""
        if self.settled or self._seconds < TRIAL:
            return False
        self.settled = True
        return self._seconds > self._alone * self._steps

    def shares(self, count: int) -> list[NDArray[np.intp]]:
        """Environments of each worker; this process keeps the first ones."""
        return [np.asarray(part) for part in np.array_split(np.arange(count), self.processes)[1:]]


def is_as_loaded(env: gym.Env[Any, Any]) -> bool:
    """Whether the file of an environment's class is as it was at the first call for it: a worker would read it anew."""
    try:
        file = inspect.getfile(type(env.unwrapped))
        changed = Path(file).stat().st_mtime
        return _SEEN.setdefault(file, changed) == changed
    except (TypeError, OSError):
        return False
