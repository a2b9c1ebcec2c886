"""Gymnasium's own environments, one for each task, behind the interface of the fast simulator."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.from_gymnasium.copies import Snapshot, restore
from metamap_envs.from_gymnasium.placement import is_as_loaded
from metamap_envs.from_gymnasium.with_workers import NOT_COPIED, EnvMaker, WithWorkers
from metamap_envs.state import Array, State
from metamap_envs.task import Task
from metamap_envs.user_env import CheckedEnv, close_user_env, is_unstable

__all__ = ["GymnasiumSimulator"]


class GymnasiumSimulator(WithWorkers):
    """N environments of Gymnasium, each made for its task.

    They are stepped one after another; where a step takes long enough, worker processes take over shares of them in
    mid-episode, as copies do, with results equal to the bit (see `Placement`). Environments that cannot be copied, that
    are not reproducible, or that a process of its own cannot make, stay here.

    Slower than `Simulator`, which steps MuJoCo alone in threads, but observations, rewards and ends are those of the
    environments' own code. A step in which MuJoCo finds the physics unstable leaves the last observation and gives a
    reward of 0; a number that is not finite for any other reason is an error.

    Args:
        family: the family of all tasks.
        tasks: one task per environment.
        num_threads: processes that may step environments, this one included; 0 for one on each core.
        **kwargs: more arguments of the environments' constructors, e.g. ``render_mode``.

    Attributes:
        envs: Gymnasium's environments.
        infos: what each gave beside observation and reward, last; empty for those of workers.

    Raises:
        MetaMapError: ``num_threads`` is negative.
    """

    def __init__(self, family: EnvMaker, tasks: Sequence[Task], num_threads: int = 0, **kwargs: Any) -> None:
        if num_threads < 0:
            raise MetaMapError(f"num_threads must be 0 (all cores) or more, got {num_threads}")
        self.family = family
        count = len(tasks)
        self._kwargs = kwargs
        self.envs: list[gym.Env[Any, Any]] = []
        self._checked: list[CheckedEnv] = []
        self._actions: list[ActionMap] = []
        self._seeded = np.zeros(count, dtype=np.bool_)
        self._lost: dict[int, str] = {}
        """By environment: why a copy cannot go on in mid-episode."""
        self._closed = False
        self._num_threads = num_threads
        self._settle(count)
        self.infos: list[dict[str, Any]] = [{} for _ in tasks]
        self.tasks: tuple[Task, ...] = ()
        self._observations: Array = np.zeros((count, family.observation_size))
        self._rewards: Array = np.zeros(count)
        self._terminated = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._diverged = np.zeros(count, dtype=np.bool_)
        self.set_tasks(tasks)
        if not self._placement.settled:
            is_as_loaded(self.envs[0])  # from now on

    def __getstate__(self) -> dict[str, Any]:
        """What a copy goes on from; see `metamap_envs.from_gymnasium.copies`."""
        own = {name: value for name, value in vars(self).items() if name not in NOT_COPIED}
        taken, steps = self._taken()
        return own | {"taken": taken, "steps": steps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the environments of the tasks anew and let each go on where the original was, or say that it cannot."""
        taken, steps, tasks = state.pop("taken"), state.pop("steps"), state.pop("tasks")
        vars(self).update(state)
        self._settle(len(tasks))
        seeded, self.envs, self.tasks = self._seeded.copy(), [], ()
        self.set_tasks(tasks)
        self._seeded = seeded
        for index, each in enumerate(taken):
            self._resume(index, each, steps[index])

    def _resume(self, index: int, taken: Snapshot, steps: int) -> None:
        """Let an environment that was made for its task go on from a snapshot."""
        self._checked[index].steps = steps
        if taken.reason:
            self._lost[index], self._seeded[index] = taken.reason, False
        else:
            restore(self.envs[index], taken)

    def __copy__(self) -> GymnasiumSimulator:
        """Independent: two simulators must not step the same environments."""
        return copy.deepcopy(self)

    @property
    def num_threads(self) -> int:
        """Processes that step, this one included."""
        return 1 if self._workers is None else 1 + len(self._workers.shares)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give each environment its task: a newly made one where the task is another, no trace of the last."""
        kept: list[Task | None] = [*self.tasks] or [None] * len(tasks)
        changed = np.array([task != old for task, old in zip(tasks, kept, strict=True)])
        new = [
            self.family.make(task, **self._kwargs) if is_new and not far else None
            for task, is_new, far in zip(tasks, changed, self._remote, strict=True)
        ]
        self._tell_tasks(np.flatnonzero(changed & self._remote), tasks)
        for index, env in enumerate(new):
            if env is not None and self.envs:
                close_user_env(self.envs[index], self.family.label(kept[index] or tasks[index]))
        self._seeded &= ~changed
        self.envs = [env or self.envs[index] for index, env in enumerate(new)]
        self.tasks = tuple(tasks)
        self.values = np.stack([task.values for task in tasks])
        labels = [self.family.label(task) for task in tasks]
        self._checked = [CheckedEnv(env, label) for env, label in zip(self.envs, labels, strict=True)]
        self._actions = [ActionMap(env.action_space, label) for env, label in zip(self.envs, labels, strict=True)]
        for label, checked, actions in zip(labels, self._checked, self._actions, strict=True):
            sizes, expected = (checked.size, actions.size), (self.family.observation_size, self.family.action_size)
            if sizes != expected:
                raise MetaMapError(f"{label}: expected {expected} observations and actions, as by default, got {sizes}")

    def change_tasks(self, indices: Sequence[int], tasks: Sequence[Task]) -> None:
        """Write other tasks into running environments; their states stay.

        Raises:
            MetaMapError: a parameter that cannot change in mid-episode; nothing is changed then.
        """
        for index, task in zip(indices, tasks, strict=True):
            self.family.live.check(self.tasks[index], task)
        if self._workers is not None:
            self._workers.each("change", self._workers.split(indices, tasks))
        self.write_tasks(indices, tasks)

    def write_tasks(self, indices: Sequence[int], tasks: Sequence[Task]) -> None:
        """Write other tasks, which were checked, into the running environments of this process."""
        now = [*self.tasks]
        for index, task in zip(indices, tasks, strict=True):
            if not self._remote[index]:
                self.family.live.apply(self.envs[index], self.tasks[index], task)
            self._checked[index].label = self.family.label(task)
            now[index] = task
        self.tasks = tuple(now)
        self.values = np.stack([task.values for task in now])

    def start(self, index: int, generator: np.random.Generator, seed: int | None = None) -> None:
        """Reset environment ``index``.

        Args:
            index: which.
            generator: gives a seed where the environment has none yet, as after a change of the task, and in each
                reset where it starts anew from chance otherwise.
            seed: what the environment is given as its own; None goes on with the last one.
        """
        if seed is None and not (self._seeded[index] and self.family.reproducibility.goes_on):
            seed = int(generator.integers(2**31))
        self._seeded[index], self._closed = True, False
        if self._remote[index]:
            self._begun[index] = seed
        else:
            self.begin(index, seed)

    def begin(self, index: int, seed: int | None) -> None:
        """Reset an environment of this process with a seed, or go on without one."""
        self._lost.pop(index, None)
        self._observations[index], self.infos[index] = self._checked[index].reset(seed)
        self._rewards[index] = 0.0
        self._terminated[index] = self._truncated[index] = self._diverged[index] = False

    def forward(self, indices: NDArray[np.intp]) -> None:
        """Have the workers reset those that `start` named, all at once; nothing is to be computed."""
        if self._workers is not None and self._begun:
            begun, self._begun = self._begun, {}
            self._workers.each("begin", self._workers.split(begun, list(begun.values())))
            self._read_shared(np.array(list(begun)))

    def step(self, actions: NDArray[Any], indices: NDArray[np.intp] | None = None) -> None:
        """Advance the environments (all, or those of ``indices``) by one step."""
        chosen = np.arange(len(self.envs)) if indices is None else np.asarray(indices)
        for index in chosen if self._lost else ():
            if index in self._lost:
                raise MetaMapError(
                    f"{self.family.label(self.tasks[index])}: a copy cannot go on in mid-episode, as "
                    f"{self._lost[index]}; call reset() first"
                )
        cpu, clock, workers = time.thread_time(), time.perf_counter(), self._workers
        if workers is None:
            self._step_here(actions, chosen)
        else:
            self._step_shared(actions, chosen, workers)
        self._placement.note(time.thread_time() - cpu, time.perf_counter() - clock, len(chosen))
        if workers is None:
            self._spread()
        elif self._placement.fails():
            self._gather()
            self._placement.settled = True

    def _step_here(self, actions: NDArray[Any], indices: NDArray[np.intp]) -> None:
        """Step environments of this process."""
        for index in indices.tolist():
            action = self._actions[index](actions[index])
            observation, reward, terminated, truncated, self.infos[index] = self._checked[index].step(
                action, unstable_is_an_end=True
            )
            sound = not is_unstable(self.envs[index])
            if sound:
                self._observations[index] = observation
            self._rewards[index] = reward if sound else 0.0
            self._terminated[index], self._truncated[index] = terminated, truncated
            self._diverged[index] |= not sound

    def state(self) -> State:
        """A copy of what the environments gave last, as readouts; positions and velocities stay inside them."""
        none: Array = np.zeros((len(self.envs), 0))
        readouts: dict[str, NDArray[Any]] = {
            "observation": self._observations.copy(),
            "reward": self._rewards.copy(),
            "terminated": self._terminated.copy(),
            "truncated": self._truncated.copy(),
        }
        return State(none, none, readouts)

    def diverged(self) -> NDArray[np.bool_] | None:
        """Which environments were found unstable since their last start, bool [N], or None if none was."""
        return self._diverged.copy() if self._diverged.any() else None

    def data(self, index: int) -> Any:
        """A copy of one environment's `MjData`, for rendering.

        Raises:
            MetaMapError: the environment has none.
        """
        if self._remote[index]:
            self._gather()
        found = getattr(self.envs[index].unwrapped, "data", None)
        if not hasattr(found, "qpos"):
            raise MetaMapError(f"family {self.family.name!r} has no MuJoCo model: it is {self.family.base_id}")
        return copy.copy(found)

    def close(self) -> None:
        """Close the environments and end the workers; closed ones are left alone."""
        if self._workers is not None:
            self._seeded[self._remote] = False  # what is left here has not gone along
            self._leave()
        if not self._closed:
            self._closed = True
            for env, task in zip(self.envs, self.tasks, strict=True):
                close_user_env(env, self.family.label(task))
