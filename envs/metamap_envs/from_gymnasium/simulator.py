"""Gymnasium's own environments, one for each task, behind the interface of the fast simulator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.from_gymnasium.changes import LiveChanges
from metamap_envs.from_gymnasium.copies import restore, snapshot
from metamap_envs.from_gymnasium.reproducible import Reproducibility
from metamap_envs.state import Array, State
from metamap_envs.task import Task
from metamap_envs.user_env import CheckedEnv, close_user_env, is_unstable

__all__ = ["GymnasiumSimulator"]


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


class GymnasiumSimulator:
    """N environments of Gymnasium, each made for its task, stepped one after another.

    Slower than `Simulator`, which steps MuJoCo alone in threads, but observations, rewards and ends are those of the
    environments' own code. A step in which MuJoCo finds the physics unstable leaves the last observation and gives a
    reward of 0; a number that is not finite for any other reason is an error.

    Args:
        family: the family of all tasks.
        tasks: one task per environment.
        num_threads: only checked: environments of Gymnasium hold Python's lock while they step.
        **kwargs: more arguments of the environments' constructors, e.g. ``render_mode``.

    Attributes:
        envs: Gymnasium's environments.
        infos: what each gave beside observation and reward, last.

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
        self.infos: list[dict[str, Any]] = [{} for _ in tasks]
        self.tasks: tuple[Task, ...] = ()
        self._observations: Array = np.zeros((count, family.observation_size))
        self._rewards: Array = np.zeros(count)
        self._terminated = np.zeros(count, dtype=np.bool_)
        self._truncated = np.zeros(count, dtype=np.bool_)
        self._diverged = np.zeros(count, dtype=np.bool_)
        self.set_tasks(tasks)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy goes on from; see `metamap_envs.from_gymnasium.copies`."""
        own = {name: value for name, value in vars(self).items() if name not in ("envs", "_checked", "_actions")}
        return own | {"taken": [snapshot(env) for env in self.envs], "steps": [each.steps for each in self._checked]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the environments of the tasks anew and let each go on where the original was, or say that it cannot."""
        taken, steps, tasks = state.pop("taken"), state.pop("steps"), state.pop("tasks")
        vars(self).update(state)
        seeded, self.envs, self.tasks = self._seeded.copy(), [], ()
        self.set_tasks(tasks)
        self._seeded = seeded
        for index, each in enumerate(taken):
            self._checked[index].steps = steps[index]
            if each.reason:
                self._lost[index], self._seeded[index] = each.reason, False
            else:
                restore(self.envs[index], each)

    def __copy__(self) -> GymnasiumSimulator:
        """Independent: two simulators must not step the same environments."""
        return copy.deepcopy(self)

    @property
    def num_threads(self) -> int:
        """Threads that step: the caller's."""
        return 1

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give each environment its task: a newly made one where the task is another, no trace of the last."""
        kept: list[Task | None] = [*self.tasks] or [None] * len(tasks)
        new = [
            None if task == old else self.family.make(task, **self._kwargs)
            for task, old in zip(tasks, kept, strict=True)
        ]
        for index, env in enumerate(new):
            if env is not None and self.envs:
                close_user_env(self.envs[index], self.family.label(kept[index] or tasks[index]))
        self._seeded &= [env is None for env in new]
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
        now = [*self.tasks]
        for index, task in zip(indices, tasks, strict=True):
            self.family.live.check(self.tasks[index], task)
        for index, task in zip(indices, tasks, strict=True):
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
        self._lost.pop(index, None)
        self._observations[index], self.infos[index] = self._checked[index].reset(seed)
        self._rewards[index] = 0.0
        self._terminated[index] = self._truncated[index] = self._diverged[index] = False

    def forward(self, indices: NDArray[np.intp]) -> None:
        """Nothing to compute: a reset did it."""

    def step(self, actions: NDArray[Any], indices: NDArray[np.intp] | None = None) -> None:
        """Advance the environments (all, or those of ``indices``) by one step."""
        for index in range(len(self.envs)) if indices is None else indices:
            if index in self._lost:
                raise MetaMapError(
                    f"{self.family.label(self.tasks[index])}: a copy cannot go on in mid-episode, as "
                    f"{self._lost[index]}; call reset() first"
                )
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
        found = getattr(self.envs[index].unwrapped, "data", None)
        if not hasattr(found, "qpos"):
            raise MetaMapError(f"family {self.family.name!r} has no MuJoCo model: it is {self.family.base_id}")
        return copy.copy(found)

    def close(self) -> None:
        """Close the environments; closed ones are left alone."""
        if not self._closed:
            self._closed = True
            for env, task in zip(self.envs, self.tasks, strict=True):
                close_user_env(env, self.family.label(task))
