"""Training environments in which tasks change, and whose episodes may start where another policy ended up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.schedule import Resampling, TaskSchedule
from metamap_envs.scheduled import check_schedule
from metamap_envs.seeds import read_seed
from metamap_envs.simulator import Simulator
from metamap_envs.state import Array, State
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv, Infos

__all__ = ["POOL_SIZE", "ChangingVectorEnv", "DrawTasks", "Snapshot"]

POOL_SIZE = 1024
"""Snapshots that a pool holds; the oldest are dropped."""
_STREAM = 20_261_129
"""Keeps these draws apart from those of the environments with the same seed."""

DrawTasks = Callable[[int, np.random.Generator], Sequence[Task]]
"""Draws so many tasks."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where one environment was: enough to go on from there.

    Attributes:
        task: its task.
        row: whole state of the simulation [S]: positions, velocities, controls, warm start.
        state: the same as the family's formulas read it, one row each.
    """

    task: Task
    row: Array
    state: State


class ChangingVectorEnv(FamilyVectorEnv):
    """N environments whose tasks change in mid-episode, and some of whose episodes start from a pool of snapshots.

    A change comes after a step: the observation that the step returns is the first one with the new task, which
    ``tasks`` and the next ``infos["task"]`` name. A reset keeps the task. An episode that starts from a snapshot takes
    over its task, too. Without changes and snapshots it is a `FamilyVectorEnv`, to the bit.

    Args:
        tasks: one task per environment, all of one family.
        draw: draws the task after a change.
        rate: probability of a change after each step, in each environment.
        pooled: share of the episodes that start from a snapshot of ``pool``, where it holds any.
        seed: of the changes, and of the choices among snapshots.
        **kwargs: further arguments of `FamilyVectorEnv`.

    Attributes:
        pool: snapshots, to be filled from outside.

    Raises:
        MetaMapError: as `FamilyVectorEnv`; ``rate`` above 0 and tasks that cannot change in mid-episode; or ``pooled``
            above 0 and a family that is not simulated by `Simulator`.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        draw: DrawTasks,
        rate: float = 0.0,
        pooled: float = 0.0,
        seed: int,
        **kwargs: Any,
    ) -> None:
        seed = read_seed(seed)
        self.pool: deque[Snapshot] = deque(maxlen=POOL_SIZE)
        self._draw, self._rate, self._pooled = draw, rate, pooled
        self._chance = np.random.default_rng([_STREAM, seed])
        self._drawn: list[Task] = []
        super().__init__(tasks, **kwargs)
        if rate:
            check_schedule(TaskSchedule(resample=Resampling(probability=rate)), self.family)
        if pooled:
            self._native()

    def step(self, actions: NDArray[Any]) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Advance all environments by one step; see `FamilyVectorEnv.step`. Then tasks may change."""
        result = super().step(actions)
        if self._rate:
            who = np.flatnonzero((self._chance.random(self.num_envs) < self._rate) & ~self._done)
            if len(who):
                self.set_tasks([self._next_task() for _ in who], who)
        return result

    def snapshot(self, index: int) -> Snapshot:
        """Where environment ``index`` is.

        Raises:
            MetaMapError: the family is not simulated by `Simulator`.
        """
        state = self._before
        readouts = {key: values[index : index + 1] for key, values in state.readouts.items()}
        own = State(state.qpos[index : index + 1], state.qvel[index : index + 1], readouts)
        return Snapshot(self.tasks[index], self._native().rows(np.array([index]))[0], own)

    def _next_task(self) -> Task:
        if not self._drawn:
            self._drawn = list(self._draw(self.num_envs, self._chance))
        return self._drawn.pop()

    def _begin(
        self, indices: NDArray[np.intp], seeds: Sequence[int | None] | None = None, *, given: bool = False
    ) -> None:
        super()._begin(indices, seeds, given=given)
        if self._pooled and self.pool:
            chosen = indices[self._chance.random(len(indices)) < self._pooled]
            self._restore(chosen, [self.pool[int(self._chance.integers(len(self.pool)))] for _ in chosen])

    def _restore(self, indices: NDArray[np.intp], snapshots: Sequence[Snapshot]) -> None:
        """Put environments where snapshots were taken; elapsed steps and generators are not touched."""
        if not len(indices):
            return
        self.simulator.change_tasks(indices.tolist(), [snapshot.task for snapshot in snapshots])
        self._name_tasks()
        self._native().restore(indices, np.stack([snapshot.row for snapshot in snapshots]))
        now = self._before
        for index, snapshot in zip(indices, snapshots, strict=True):
            now.qpos[index], now.qvel[index] = snapshot.state.qpos[0], snapshot.state.qvel[0]
            for key, values in snapshot.state.readouts.items():
                now.readouts[key][index] = values[0]

    def _native(self) -> Simulator:
        if not isinstance(self.simulator, Simulator):
            raise MetaMapError(
                f"family {self.family.name!r} steps Gymnasium's own environments, whose states cannot be put back: "
                "expected one that MuJoCo alone simulates"
            )
        return self.simulator
