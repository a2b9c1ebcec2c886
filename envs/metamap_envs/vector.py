"""The fast simulator as a Gymnasium `VectorEnv`: every environment with its own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Array, get_family
from metamap_envs.simulator import Simulator
from metamap_envs.spaces import action_space, observation_space, read_task
from metamap_envs.task import Task

__all__ = ["FamilyVectorEnv", "make_vector_env"]

Infos = dict[str, Any]
_RESET_OPTIONS = ("parameters", "reset_mask", "task", "tasks")


class FamilyVectorEnv(VectorEnv[Array, NDArray[Any], Array]):
    """N environments of one family, each with its own task, stepped in parallel threads.

    Observations, rewards and ends are those of N single environments (`FamilyEnv` with a time limit) seeded alike,
    to the bit. An episode in which MuJoCo finds the physics unstable is terminated, with ``infos["diverged"]`` set.

    ``infos["task"]`` always holds the task ids. Terms of the reward are in ``infos`` by name. In same-step autoreset
    ``infos["final_obs"]`` and ``infos["final_info"]`` follow Gymnasium's layout.

    Args:
        tasks: one task per environment, all of one family.
        num_threads: threads including the caller's; 0 takes all cores.
        autoreset_mode: Gymnasium's next-step (default), same-step or disabled.
        horizon: steps after which an episode is truncated; default the family's.

    Raises:
        MetaMapError: no tasks, tasks of different families, an unknown autoreset mode or a horizon below 1.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        num_threads: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        horizon: int | None = None,
    ) -> None:
        if not tasks:
            raise MetaMapError("a vector environment needs at least one task, got none")
        self.family = get_family(tasks[0].family)
        for task in tasks:
            self.family.check_task(task)
        self.horizon = self.family.horizon if horizon is None else horizon
        if self.horizon < 1:
            raise MetaMapError(f"the horizon must be at least 1 step, got {self.horizon}")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.num_envs = len(tasks)
        self.single_observation_space = observation_space(self.family)
        self.single_action_space = action_space(self.family)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.simulator = Simulator(self.family, tasks, num_threads)
        self._generators, self._seeds = self._fresh_generators([None] * self.num_envs)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        self._started = False
        self._name_tasks()
        self._before = self.simulator.state()

    # task and seeds -----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, one per environment."""
        return self.simulator.tasks

    def _name_tasks(self) -> None:
        self._task_ids = np.array([task.id for task in self.tasks], dtype=object)
        self._all = np.ones(self.num_envs, dtype=np.bool_)

    def _fresh_generators(self, seeds: Sequence[int | None]) -> tuple[list[np.random.Generator], list[int]]:
        pairs = [seeding.np_random(seed) for seed in seeds]
        return [generator for generator, _ in pairs], [seed for _, seed in pairs]

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]  # as in SyncVectorEnv
        """Random generators, one per environment."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as in SyncVectorEnv
        """Seeds of the generators, one per environment."""
        return tuple(self._seeds)

    def _read_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise MetaMapError(f"expected {self.num_envs} reset seeds, one per environment, got {len(seed)}")
        return [None if one is None else int(one) for one in seed]

    def _read_tasks(self, options: Mapping[str, Any]) -> list[Task] | None:
        for key in options:
            if key not in _RESET_OPTIONS:
                raise unknown_name("reset option", key, _RESET_OPTIONS)
        if "tasks" in options:
            tasks = [read_task(self.family, {"task": task}) for task in options["tasks"]]
            if len(tasks) != self.num_envs:
                raise MetaMapError(f"expected {self.num_envs} tasks, one per environment, got {len(tasks)}")
            return [task for task in tasks if task is not None]
        one = read_task(self.family, options)
        return None if one is None else [one] * self.num_envs

    # Gymnasium ----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Infos]:
        """Start new episodes.

        Args:
            seed: one seed s, read as s, s+1, ...; a list of one seed per environment; or None to go on.
            options: ``tasks`` (one per environment), or ``task`` or ``parameters`` for all of them, change the tasks;
                ``reset_mask`` (bool [N]) resets only some environments, as in Gymnasium.

        Raises:
            MetaMapError: wrong number of seeds or tasks, an unknown option, or a mask of another shape.
        """
        options = options or {}
        mask = _read_mask(options, self.num_envs)
        tasks = self._read_tasks(options)
        seeds = self._read_seeds(seed)
        if tasks is not None:
            if not mask.all():
                raise MetaMapError(
                    "tasks can change only when all environments are reset, not under reset_mask"
                )
            self.simulator.set_tasks(tasks)
            self._name_tasks()
        for index in np.flatnonzero(mask):
            if seeds[index] is not None:
                self._generators[index], self._seeds[index] = seeding.np_random(seeds[index])
        self._begin(np.flatnonzero(mask))
        self._started = True
        return self.family.observe(self._before), {"task": self._task_ids.copy(), "_task": mask}

    def step(self, actions: NDArray[Any]) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Advance all environments by one step.

        Args:
            actions: [N, A]. As in Gymnasium's MuJoCo environments they are not clipped here: the actuators are.

        Raises:
            MetaMapError: `reset` was never called, the shape is another, a value is not finite, or (autoreset
                disabled) a finished environment was not reset.
        """
        actions = self._check_actions(actions)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._done.any():
            return self._step_after_ends(actions)
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done.any():
            raise MetaMapError(
                f"environment {self._done.argmax()} has ended; reset it with options['reset_mask']"
            )
        after, rewards, terminated, truncated, infos = self._advance(actions, None)
        observations = self.family.observe(after)
        self._done = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._done.any():
            _add_final(infos, observations, self._done)
            self._begin(np.flatnonzero(self._done))
            observations = self.family.observe(self._before)
            self._done = np.zeros_like(self._done)
        return observations, rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Nothing to release: the threads end with the simulator."""

    # inside -------------------------------------------------------------------------------------------------------

    def _check_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        if not self._started:
            raise MetaMapError("call reset() before step()")
        actions = np.asarray(actions)
        expected = (self.num_envs, self.family.action_size)
        if actions.shape != expected:
            raise MetaMapError(f"actions: expected shape {expected}, got {actions.shape}")
        if not np.isfinite(actions).all():
            index = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
            raise MetaMapError(f"the action of environment {index} is not finite: {actions[index]}")
        return actions

    def _begin(self, indices: NDArray[np.intp]) -> None:
        """Start new episodes in some environments."""
        for index in indices:
            self.simulator.start(int(index), self._generators[index])
        self.simulator.forward(indices)
        self._elapsed[indices] = 0
        self._done[indices] = False
        self._before = self.simulator.state()

    def _advance(
        self, actions: NDArray[Any], indices: NDArray[np.intp] | None
    ) -> tuple[Any, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Step the physics and score it; ``indices`` are the environments to move, None for all."""
        self.simulator.step(actions, indices)
        after = self.simulator.state()
        values = self.simulator.values
        rewards, terms = self.family.reward(self._before, after, actions, values)
        terminated = self.family.terminated(after, values)
        infos: Infos = {"task": self._task_ids.copy(), "_task": self._all.copy()}
        diverged = self.simulator.diverged()
        if diverged.any():
            terminated = terminated | diverged
            infos["diverged"], infos["_diverged"] = diverged, self._all.copy()
        for name, term in terms.items():
            infos[name], infos[f"_{name}"] = term, self._all.copy()
        self._before = after
        self._elapsed += 1
        return after, rewards, terminated, self._elapsed >= self.horizon, infos

    def _step_after_ends(
        self, actions: NDArray[Any]
    ) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Next-step autoreset: environments that ended last time start anew, the others move."""
        ended = self._done.copy()
        after, rewards, terminated, truncated, infos = self._advance(actions, np.flatnonzero(~ended))
        for name in [name for name in infos if name.startswith("_") and name != "_task"]:
            infos[name] &= ~ended
        self._begin(np.flatnonzero(ended))
        rewards[ended] = 0.0
        terminated, truncated = terminated & ~ended, truncated & ~ended
        self._done = terminated | truncated
        return self.family.observe(self._before), rewards, terminated, truncated, infos


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    names = {member.value.lower(): member for member in AutoresetMode} | {
        m.name.lower(): m for m in AutoresetMode
    }
    if isinstance(mode, AutoresetMode):
        return mode
    if str(mode).lower() not in names:
        raise unknown_name("autoreset mode", mode, [member.name.lower() for member in AutoresetMode])
    return names[str(mode).lower()]


def _read_mask(options: Mapping[str, Any], count: int) -> NDArray[np.bool_]:
    if "reset_mask" not in options:
        return np.ones(count, dtype=np.bool_)
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise MetaMapError(
            f"reset_mask: expected bool of shape ({count},) with one True at least, got {mask!r}"
        )
    return mask


def _add_final(infos: Infos, observations: Array, done: NDArray[np.bool_]) -> None:
    """Put last observations and infos of ended episodes where Gymnasium's same-step autoreset puts them."""
    final = np.full(len(done), None, dtype=object)
    for index in np.flatnonzero(done):
        final[index] = observations[index]
    infos["final_info"] = {
        key: (np.where(done, value, np.zeros_like(value)) if not key.startswith("_") else value & done)
        for key, value in infos.items()
    }
    infos["final_obs"] = final
    infos["_final_obs"] = infos["_final_info"] = done.copy()


def make_vector_env(
    num_envs: int,
    family: str,
    *,
    tasks: Sequence[Task] | None = None,
    parameters: Mapping[str, object] | None = None,
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> FamilyVectorEnv:
    """Entry point for `gymnasium.make_vec`.

    Args:
        num_envs: number of environments.
        family: name of the family.
        tasks: one task per environment; excludes ``parameters``.
        parameters: the parameters of all environments; default the family's defaults.
        max_episode_steps: horizon; default the family's.
        **kwargs: for `FamilyVectorEnv`.

    Raises:
        MetaMapError: as `FamilyVectorEnv`, or both tasks and parameters given.
    """
    if tasks is not None and parameters is not None:
        raise MetaMapError("give either tasks or parameters, not both")
    if tasks is None:
        tasks = [get_family(family).task(parameters)] * num_envs
    if len(tasks) != num_envs:
        raise MetaMapError(f"expected {num_envs} tasks, one per environment, got {len(tasks)}")
    for task in tasks:
        get_family(family).check_task(task)
    return FamilyVectorEnv(tasks, horizon=max_episode_steps, **kwargs)
