"""The part of `GymnasiumSimulator` that shares environments out to worker processes, and takes them back."""

from __future__ import annotations

import os
import pickle
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.from_gymnasium.changes import LiveChanges
from metamap_envs.from_gymnasium.copies import Snapshot, snapshot
from metamap_envs.from_gymnasium.placement import Placement, is_as_loaded
from metamap_envs.from_gymnasium.reproducible import Reproducibility
from metamap_envs.from_gymnasium.workers import Workers
from metamap_envs.state import Array
from metamap_envs.task import Task
from metamap_envs.user_env import CheckedEnv, close_user_env

__all__ = ["NOT_COPIED", "WithWorkers"]

NOT_COPIED = ("envs", "_checked", "_actions", "_placement", "_workers", "_starting", "_remote", "_begun")
"""Attributes that a copy has of its own making."""
ARRAYS = ("_observations", "_rewards", "_terminated", "_truncated", "_diverged")


class EnvMaker(Protocol):
    """What `GymnasiumSimulator` needs of a `GymnasiumFamily`, where each of these is described."""

    @property
    def name(self) -> str: ...

    @property
    def base_id(self) -> str: ...

    @property
    def observation_size(self) -> int: ...

    @property
    def action_size(self) -> int: ...

    @property
    def reproducibility(self) -> Reproducibility: ...

    def make(self, task: Task, **kwargs: Any) -> gym.Env[Any, Any]: ...

    @property
    def live(self) -> LiveChanges: ...

    def label(self, task: Task) -> str: ...


class WithWorkers:
    """Environments, some of which are stepped by worker processes; what it needs is described by its subclass."""

    family: EnvMaker
    envs: list[gym.Env[Any, Any]]
    infos: list[dict[str, Any]]
    tasks: tuple[Task, ...]
    values: Array
    _kwargs: dict[str, Any]
    _num_threads: int
    _checked: list[CheckedEnv]
    _actions: list[ActionMap]
    _lost: dict[int, str]
    _seeded: NDArray[np.bool_]
    _observations: Array
    _rewards: Array
    _terminated: NDArray[np.bool_]
    _truncated: NDArray[np.bool_]
    _diverged: NDArray[np.bool_]
    _begun: dict[int, int | None]
    """Environments of workers that are to be reset, with seeds."""

    def _step_here(self, actions: NDArray[Any], indices: NDArray[np.intp]) -> None:
        raise NotImplementedError

    def _resume(self, index: int, taken: Snapshot, steps: int) -> None:
        raise NotImplementedError

    def _settle(self, count: int) -> None:
        """Begin without workers."""
        self._placement = Placement(count, self._num_threads)
        self._workers: Workers | None = None
        self._starting: Workers | None = None
        self._remote = np.zeros(count, dtype=np.bool_)
        self._begun = {}
        _LIVE.add(self)

    def _spread(self) -> None:
        """Start workers where that pays, and hand them environments as soon as they are ready."""
        if not self._placement.pays():
            return
        try:
            if self._starting is None:
                self._placement.settled = bool(self.family.reproducibility.complaint) or not is_as_loaded(self.envs[0])
                if not self._placement.settled:
                    self._starting = Workers(self.family, self._placement.shares(len(self.envs)), len(self.envs))
            elif self._starting.ready():
                self._hand_over(self._starting)
        except (MetaMapError, OSError, TypeError, AttributeError, pickle.PicklingError):  # it goes on without
            self._placement.settled = True
        if self._placement.settled and self._starting is not None:
            self._starting.close()
            self._starting = None

    def _hand_over(self, workers: Workers) -> None:
        """Let workers go on with their environments."""
        taken = {index: snapshot(self.envs[index]) for index in np.flatnonzero(workers.remote).tolist()}
        if self._lost or any(each.reason for each in taken.values()):
            self._placement.settled = True
            return
        workers.each("load", [(where, self._share(where, taken)) for where in workers.shares])
        self._workers, self._starting, self._remote = workers, None, workers.remote
        self._placement.begin_trial()

    def _share(self, where: NDArray[np.intp], taken: dict[int, Snapshot]) -> dict[str, Any]:
        """State of a simulator of some of the environments, for `__setstate__`."""
        own = {name: getattr(self, name)[where] for name in (*ARRAYS, "_seeded", "values")}
        return own | {
            "_kwargs": self._kwargs,
            "_lost": {},
            "_closed": False,
            "_num_threads": 1,
            "infos": [{} for _ in where],
            "tasks": tuple(self.tasks[index] for index in where),
            "taken": [taken[index] for index in where.tolist()],
            "steps": [self._checked[index].steps for index in where],
        }

    def _step_shared(self, actions: NDArray[Any], chosen: NDArray[np.intp], workers: Workers) -> None:
        """Step some environments here and the others by workers, at the same time."""
        moving = np.zeros(len(self.envs), dtype=np.bool_)
        moving[chosen] = True
        busy = workers.step(actions, moving)
        try:
            self._step_here(actions, np.flatnonzero(moving & ~self._remote))
        finally:
            workers.finish(busy)
        self._read_shared(np.flatnonzero(moving & self._remote))

    def _read_shared(self, indices: NDArray[np.intp]) -> None:
        assert self._workers is not None, "there is something to be read"
        shared = self._workers.shared
        self._observations[indices], self._rewards[indices] = shared.observations[indices], shared.rewards[indices]
        for own, flag in zip((self._terminated, self._truncated, self._diverged), shared.flags, strict=False):
            own[indices] = flag[indices]

    def outcome(self) -> dict[str, NDArray[Any]]:
        """What the environments gave last, by name."""
        return {name.removeprefix("_"): getattr(self, name) for name in ARRAYS}

    def _taken(self) -> tuple[list[Snapshot], list[int]]:
        """Snapshots of all environments, and steps of their episodes."""
        taken = [Snapshot() if far else snapshot(env) for env, far in zip(self.envs, self._remote, strict=True)]
        steps = [each.steps for each in self._checked]
        if self._workers is not None:
            shares = self._workers.shares
            for where, found in zip(shares, self._workers.each("take", [None] * len(shares)), strict=True):
                for index, one, count in zip(where.tolist(), found["taken"], found["steps"], strict=True):
                    taken[index], steps[index] = one, count
        return taken, steps

    def _gather(self) -> None:
        """Take all environments back into this process, and end the workers."""
        if self._workers is not None:
            taken, steps = self._taken()
            far = np.flatnonzero(self._remote).tolist()
            self._leave()
            for index in far:
                close_user_env(self.envs[index], self.family.label(self.tasks[index]))
                self.envs[index] = self.family.make(self.tasks[index], **self._kwargs)
                label = self.family.label(self.tasks[index])
                self._checked[index] = CheckedEnv(self.envs[index], label)
                self._actions[index] = ActionMap(self.envs[index].action_space, label)
                self._resume(index, taken[index], steps[index])

    def _leave(self) -> None:
        for workers in (self._workers, self._starting):
            if workers is not None:
                workers.close()
        self._settle(len(self.envs))

    def _tell_tasks(self, indices: NDArray[np.intp], tasks: Sequence[Task]) -> None:
        """Have the workers make environments of other tasks."""
        if self._workers is not None and len(indices):
            self._workers.each("tasks", self._workers.split(indices.tolist(), [tasks[index] for index in indices]))

    # forks ------------------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        """Take environments back, so that both processes go on; not in mid-step, where an answer is awaited."""
        if self._workers is not None and not self._workers.busy:
            self._gather()

    def _after_fork(self) -> None:
        """In the child: leave workers to the parent."""
        for workers in (self._workers, self._starting):
            if workers is not None:
                workers.abandon()
        for index in np.flatnonzero(self._remote).tolist():
            self._lost[index], self._seeded[index] = "this process was forked in mid-step", False
        self._settle(len(self.envs))


_LIVE: weakref.WeakSet[WithWorkers] = weakref.WeakSet()


def _before_fork() -> None:
    for simulator in list(_LIVE):
        simulator._before_fork()


def _after_fork() -> None:
    for simulator in list(_LIVE):
        simulator._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
