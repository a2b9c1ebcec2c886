"""The mapper in service: what hovering takes is read from the latest transitions every few steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.evaluation.hovering.network import COORDINATES, HoverMapper
from metamap_rl.evaluation.hovering.rows import WINDOW, Rows

__all__ = ["HoverPilot"]

_AT_FIRST, _EVERY = (2, 4, 6, 8), 5  # steps after which it reads, as least squares do


class HoverPilot:
    """A controller of the pilots' interface.

    Args:
        mapper: the mapper.
        count: number of vehicles, N.
        reads: "window"; "nothing", for the mean vehicle throughout; "truth", for what hovering takes in truth; or
            "other", the control: the window of the next vehicle.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, mapper: HoverMapper, count: int, reads: str = "window") -> None:
        self._mapper, self._reads = mapper, reads
        self.rows = Rows(count)
        self.coordinates = np.zeros((count, COORDINATES), dtype=np.float32)
        """What is served."""
        self.truth = self.coordinates
        """What hovering takes in truth; looked at by "truth" and in training only."""
        self.step = 0
        """Steps so far."""
        self.latest: tuple[NDArray[Any], NDArray[np.float32]] | None = None
        """Observations and actions of the step."""

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        where = np.flatnonzero(changed) if self.step else np.arange(len(tasks))
        if len(where):
            self.truth = self.truth.copy()
            self.truth[where] = self._mapper.policy.coordinates([tasks[int(index)] for index in where])
            if self._reads == "truth":
                self.coordinates = self.truth

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        self.rows.start(observations, where)

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        actions = self._mapper.policy(observations, self.coordinates)
        self.latest = observations, actions
        return actions

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        self.append(step)
        if self._reads in ("window", "other") and (self.step in _AT_FIRST or self.step % _EVERY == 0):
            length = min(self.step, WINDOW)
            window = self.rows.window[:, WINDOW - length :]
            self.coordinates = self._mapper.read(np.roll(window, -1, axis=0) if self._reads == "other" else window)

    def append(self, step: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Add a transition to the windows; returns its rows and which of them count."""
        assert self.latest is not None, "observe() follows act()"
        after = step["next_observations"]
        valid = step["valid"] & np.isfinite(after).all(axis=1)
        self.step += 1
        return self.rows.add(*self.latest, after, valid), valid
