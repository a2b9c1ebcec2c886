"""The fast simulator as a Gymnasium `VectorEnv`: every environment with its own task."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.options import check_options, read_mask, read_seeds, read_task, read_tasks, read_where
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.state import Array
from metamap_envs.task import Task

if TYPE_CHECKING:
    from metamap_envs.family import Family
    from metamap_envs.schedule import TaskSchedule
    from metamap_envs.scheduled import ScheduleRuns

__all__ = ["FamilyVectorEnv", "make_vector_env"]

Infos = dict[str, Any]
_SETTINGS = ("num_threads", "autoreset_mode", "schedule")  # passed on to `FamilyVectorEnv` by `make_vector_env`
_HIDDEN = ("family", "render_mode", "settings")  # not offered when an argument is unknown
_RESET_OPTIONS = ("parameters", "reset_mask", "task", "tasks")


class FamilyVectorEnv(VectorEnv[Array, NDArray[Any], NDArray[Any]]):
    """N environments of one family, each with its own task, stepped in parallel threads.

    Observations, rewards and ends are those of N single environments (`FamilyEnv` with a time limit) seeded alike,
    to the bit. An episode in which MuJoCo finds the physics unstable is terminated, with ``infos["diverged"]`` set, the
    last observation again and reward 0.

    ``infos["task"]`` always holds all task ids. Terms of the reward are in ``infos`` by name, ``infos["_<name>"]``
    says for which environments. In same-step autoreset ``infos["final_obs"]`` and ``infos["final_info"]`` follow
    Gymnasium's layout.

    Args:
        tasks: one task per environment, all of one family.
        num_threads: threads including the caller's; 0 takes all cores.
        autoreset_mode: Gymnasium's next-step (default), same-step or disabled.
        horizon: steps after which an episode is truncated; default the family's.
        schedule: changes of the tasks in mid-episode, as `ScheduledTasks` makes them in each single environment; or its
            JSON form.

    Raises:
        MetaMapError: no tasks, tasks of different families, an unknown autoreset mode, a horizon below 1, a
            negative number of threads, or a schedule that does not fit the family.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        num_threads: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        horizon: int | None = None,
        schedule: TaskSchedule | Mapping[str, Any] | None = None,
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
        self._runs = _schedule_runs(schedule, self.family, self.num_envs)
        self.simulator = self.family.engine(tasks, num_threads)
        pairs = [seeding.np_random() for _ in tasks]
        self._generators = [generator for generator, _ in pairs]
        self._seeds = [seed for _, seed in pairs]
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

    def set_tasks(
        self, tasks: Sequence[Task | Mapping[str, Any]], where: Sequence[int] | NDArray[Any] | None = None
    ) -> None:
        """Change tasks in mid-episode: other physics and rewards from the next step on, in the same states.

        Everything else goes on: states, warm starts, elapsed steps and generators. It does to each environment what
        `FamilyEnv.set_task` does to a single one, to the bit. An environment whose episode has ended starts the next
        one with its new task.

        Args:
            tasks: one for each environment that ``where`` names, in that order, each a `Task` or its JSON form.
            where: bool [N], or indices; None for all environments.

        Raises:
            MetaMapError: another number of tasks, one of another family, one that cannot be set in mid-episode, or
                ``where`` is neither; nothing is changed then.
        """
        indices = read_where(where, self.num_envs)
        read = read_tasks(self.family, tasks, len(indices))
        self.simulator.change_tasks(indices, read)
        self._name_tasks()
        now = self.simulator.state()
        if not self.family.current_readouts:  # the others are those of the last step
            now = replace(now, readouts=self._before.readouts)
        changed = np.zeros(self.num_envs, dtype=np.bool_)
        changed[indices] = True
        self._before = now.where(changed, self._before)

    def _name_tasks(self) -> None:
        self._task_ids = np.array([task.id for task in self.tasks], dtype=object)

    @property  # type: ignore[misc]  # read-only as in SyncVectorEnv
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Random generators, one per environment."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as in SyncVectorEnv
        """Seeds of the generators, one per environment."""
        return tuple(self._seeds)

    def _read_options(self, options: Mapping[str, Any]) -> tuple[NDArray[np.bool_], list[Task] | None]:
        """Mask of the environments to reset, and the new tasks if any are asked for."""
        check_options(options, _RESET_OPTIONS)
        mask = read_mask(options, self.num_envs)
        one = read_task(self.family, options)
        tasks = None if one is None else [one] * self.num_envs
        if options.get("tasks") is not None:
            if one is not None:
                raise MetaMapError("give tasks (one per environment), or task or parameters (for all), not both")
            tasks = read_tasks(self.family, options["tasks"], self.num_envs)
        if not mask.all():
            if tasks is not None:
                raise MetaMapError("tasks can change only when all environments are reset, not under reset_mask")
            if not self._started:
                raise MetaMapError("the first reset must be of all environments, without reset_mask")
        return mask, tasks

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
            MetaMapError: bad seeds, tasks, mask or option names; nothing is changed then.
        """
        mask, tasks = self._read_options(options or {})
        seeds = read_seeds(seed, self.num_envs)
        if tasks is not None:
            self.simulator.set_tasks(tasks)
            self._name_tasks()
        indices = np.flatnonzero(mask)
        for index in indices:
            if seeds[index] is not None:
                self._generators[index], self._seeds[index] = seeding.np_random(seeds[index])
        self._begin(indices, seeds, given=tasks is not None)
        self._started = True
        return self._observations(), {"task": self._task_ids.copy(), "_task": mask}

    def step(self, actions: NDArray[Any]) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Advance all environments by one step.

        Args:
            actions: [N, A]. As in Gymnasium's MuJoCo environments they are not clipped here: the actuators are.

        Raises:
            MetaMapError: `reset` was never called, the shape is another, a value is not finite, or (autoreset
                disabled) a finished environment was not reset.
        """
        actions = self._check_actions(actions)
        if self._done.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise MetaMapError(f"environment {self._done.argmax()} has ended; reset it with options['reset_mask']")
        if self._runs is not None:
            who, tasks = self._runs.next(self.tasks, ~self._done)
            if who:
                self.set_tasks(tasks, who)
        if self._done.any():
            return self._step_after_ends(actions)
        rewards, terminated, truncated, infos = self._advance(actions)
        done = terminated | truncated
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._done = done
        elif done.any():
            infos = self._final_infos(infos, done)
            self._begin(np.flatnonzero(done))
            infos["task"] = self._task_ids.copy()
        return self._observations(), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Release the simulator."""
        self.simulator.close()

    def __copy__(self) -> FamilyVectorEnv:
        """Independent, as `copy.deepcopy` and pickling make it: it goes on from here to the bit."""
        return copy.deepcopy(self)

    # inside -------------------------------------------------------------------------------------------------------

    def _observations(self) -> Array:
        return self.family.observed(self._before, self.simulator.values)

    def _check_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        if not self._started:
            raise MetaMapError("call reset() before step()")
        actions = np.ascontiguousarray(actions)  # the order of a sum, and so its last bit, depends on the layout
        expected = (self.num_envs, self.family.action_size)
        if actions.shape != expected:
            raise MetaMapError(f"actions: expected shape {expected}, got {actions.shape}")
        finite = np.isfinite(actions)
        if not finite.all():
            index = int(finite.all(axis=1).argmin())
            raise MetaMapError(f"the action of environment {index} is not finite: {actions[index]}")
        return actions

    def _begin(
        self, indices: NDArray[np.intp], seeds: Sequence[int | None] | None = None, *, given: bool = False
    ) -> None:
        """Start new episodes in some environments; their generators have just been seeded, or go on.

        ``given``: they have just been given tasks, with which a schedule starts anew.
        """
        if self._runs is not None:
            each = [None] * self.num_envs if seeds is None else seeds
            who, tasks = self._runs.begin(indices.tolist(), self.tasks, each, self._seeds, given=given)
            self.simulator.change_tasks(who, tasks)
            self._name_tasks()
        for index in indices:
            self.simulator.start(int(index), self._generators[index], None if seeds is None else seeds[index])
        self.simulator.forward(indices)
        self._elapsed[indices] = 0
        self._done[indices] = False
        started = np.zeros(self.num_envs, dtype=np.bool_)
        started[indices] = True
        self._before = self.simulator.state().where(started, self._before)

    def _advance(
        self, actions: NDArray[Any], indices: NDArray[np.intp] | None = None
    ) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Step the physics and score it; ``indices`` are the environments to move, None for all."""
        self.simulator.step(actions, indices)
        after, values = self.simulator.state(), self.simulator.values
        rewards, terms = self.family.reward(self._before, after, actions, values)
        terminated = self.family.terminated(after, values)
        diverged = self.simulator.diverged()
        if diverged is not None:  # MuJoCo has started anew within the step: no transition goes across that
            after = self._before.where(diverged, after)
            rewards, terminated = np.where(diverged, 0.0, rewards), terminated | diverged
            terms = {name: np.where(diverged, 0.0, term) for name, term in terms.items()}
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos: Infos = {"task": self._task_ids.copy(), "_task": everywhere}
        for name, term in terms.items():
            infos[name], infos[f"_{name}"] = term.astype(np.float64, copy=False), everywhere
        if diverged is not None:
            infos["diverged"] = infos["_diverged"] = diverged
        self._before = after
        self._elapsed += 1
        truncated, cut = self._elapsed >= self.horizon, self.family.truncated(after)
        return rewards, terminated, truncated if cut is None else truncated | cut, infos

    def _step_after_ends(
        self, actions: NDArray[Any]
    ) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Next-step autoreset: environments that ended last time start anew, the others move."""
        moving = ~self._done
        rewards, terminated, truncated, infos = self._advance(actions, np.flatnonzero(moving))
        self._begin(np.flatnonzero(~moving))
        infos["task"] = self._task_ids.copy()
        rewards = np.where(moving, rewards, 0.0)
        terminated, truncated = terminated & moving, truncated & moving
        self._done = terminated | truncated
        return self._observations(), rewards, terminated, truncated, self._with_tasks(infos, moving)

    def _final_infos(self, infos: Infos, done: NDArray[np.bool_]) -> Infos:
        """Same-step autoreset: move last observations and infos of ended episodes to where Gymnasium puts them."""
        last = self._observations()
        final = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(done):
            final[index] = last[index]
        return self._with_tasks(infos, ~done) | {
            "final_obs": final,
            "_final_obs": done,
            "final_info": _of_some(infos, done),
            "_final_info": done,
        }

    def _with_tasks(self, infos: Infos, who: NDArray[np.bool_]) -> Infos:
        """Infos of some environments, and the task of every one."""
        tasks = {"task": infos["task"], "_task": infos["_task"]}
        return tasks | {key: value for key, value in _of_some(infos, who).items() if key not in tasks}


def _of_some(infos: Infos, who: NDArray[np.bool_]) -> Infos:
    """Infos in Gymnasium's layout of the environments ``who``; elsewhere zero or None, without keys that none has."""
    some: Infos = {}
    for key in [key for key in infos if not key.startswith("_")]:
        valid = infos[f"_{key}"] & who
        if valid.any():
            absent = None if infos[key].dtype == object else infos[key].dtype.type(0)
            some[key], some[f"_{key}"] = np.where(valid, infos[key], absent), valid
    return some


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    names = {member.value.lower(): member for member in AutoresetMode} | {m.name.lower(): m for m in AutoresetMode}
    if isinstance(mode, AutoresetMode):
        return mode
    if str(mode).lower() not in names:
        raise unknown_name("autoreset mode", mode, [member.name.lower() for member in AutoresetMode])
    return names[str(mode).lower()]


def make_vector_env(
    num_envs: int,
    family: str,
    *,
    tasks: Sequence[Task | Mapping[str, Any]] | None = None,
    task: Task | Mapping[str, Any] | None = None,
    parameters: Mapping[str, object] | None = None,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    **settings: Any,
) -> FamilyVectorEnv:
    """Entry point for `gymnasium.make_vec`.

    Args:
        num_envs: number of environments.
        family: name of the family.
        tasks: one task, or its JSON form, per environment.
        task: that of all environments.
        parameters: the parameters of all environments; default the family's defaults. Only one of the three.
        max_episode_steps: horizon; default the family's.
        render_mode: must be None, as Gymnasium passes it on: nothing is drawn here.
        **settings: ``num_threads``, ``autoreset_mode`` and ``schedule`` of `FamilyVectorEnv`.

    Raises:
        MetaMapError: as `FamilyVectorEnv`, more than one of tasks, task and parameters, a render mode, or an
            unknown argument.
    """
    if unknown := settings.keys() - set(_SETTINGS):
        own = [name for name in inspect.signature(make_vector_env).parameters if name not in _HIDDEN]
        raise unknown_name("argument of the vector environment", min(unknown), [*own, *_SETTINGS])
    if render_mode is not None:
        raise MetaMapError(
            f"render_mode {render_mode!r}: the fast vector environment draws no pictures; "
            "make_vec(..., vectorization_mode='sync') does"
        )
    if sum(given is not None for given in (tasks, task, parameters)) > 1:
        raise MetaMapError("give one of tasks, task and parameters, not several")
    if tasks is None:
        of_all = read_task(get_family(family), {"task": task, "parameters": parameters})
        chosen = [of_all or get_family(family).task()] * num_envs
    else:
        chosen = read_tasks(get_family(family), tasks, num_envs)
    return FamilyVectorEnv(chosen, horizon=max_episode_steps, **settings)


def _schedule_runs(schedule: object, family: Family, count: int) -> ScheduleRuns | None:
    """A schedule for each environment; what reads schedules is imported where there is one."""
    if schedule is None:
        return None
    from metamap_envs.scheduled import ScheduleRuns, read_schedule

    return ScheduleRuns(read_schedule(schedule), family, count)
