"""Many tasks of one family in MuJoCo at once: the physics under the vector environment."""

from __future__ import annotations

import copy
import ctypes
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import mujoco
import numpy as np
from mujoco import batch
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["UNSTABLE", "Engine", "Simulator", "check_layout", "continued", "default_threads"]

UNSTABLE = tuple(
    warning.value
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_BADCTRL,
    )
)
"""MuJoCo's warnings of a state that is NaN or huge. MuJoCo resets such a state by itself and goes on."""
_WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION.value
_SIZES = ("nq", "nv", "na", "nu", "nbody", "njnt", "ngeom", "nsite", "nmocap", "neq", "nsensordata", "nhistory")


def default_threads() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Physics(Protocol):
    """What `Simulator` needs of a `Family`, where each of these is described."""

    @property
    def base_model(self) -> mujoco.MjModel: ...

    @property
    def frame_skip(self) -> int: ...

    @property
    def readouts(self) -> Mapping[str, Readout]: ...

    @property
    def current_readouts(self) -> bool: ...

    @property
    def inner_loop(self) -> bool: ...

    def model(self, task: Task) -> mujoco.MjModel: ...

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]: ...

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array: ...

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> NDArray[Any]: ...

    def carry(self, task: Task, qpos: Array, qvel: Array) -> None: ...


def schedule_of_steps(family: Physics) -> tuple[int, int]:
    """How often controls are computed in one environment step, and how many MuJoCo steps are taken with each."""
    return (family.frame_skip, 1) if family.inner_loop else (1, family.frame_skip)


def check_layout(old: mujoco.MjModel, new: mujoco.MjModel, task: Task) -> None:
    """Refuse a model to which a state of another one cannot be carried.

    Raises:
        MetaMapError: positions, velocities, controls or anything else of a state have other sizes.
    """
    for name in _SIZES:
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            raise MetaMapError(
                f"task {task.id} ({task.describe()}) cannot be set in mid-episode: its model has {name} {now}, the "
                f"present one {before}; give it to reset()"
            )


def continued(
    old: mujoco.MjModel, data: mujoco.MjData, new: mujoco.MjModel, readouts: Iterable[Readout]
) -> mujoco.MjData:
    """Data of a new model in the whole state of an old one, to go on from there.

    The state is time, positions, velocities, activations, controls, history of delayed controls, warm start, and the
    count of warnings. Positions and velocities of bodies are the new model's at that state; other quantities that
    ``readouts`` name are those of the last step.
    """
    result = mujoco.MjData(new)
    state = np.empty(mujoco.mj_stateSize(old, _WHOLE))
    mujoco.mj_getState(old, data, state, _WHOLE)
    mujoco.mj_setState(new, result, state, _WHOLE)
    for field in {readout.field for readout in readouts}:
        getattr(result, field)[...] = getattr(data, field)
    mujoco.mj_step1(new, result)
    mujoco.mj_setState(new, result, state, _WHOLE)
    for kind in UNSTABLE:
        result.warning[kind].number = data.warning[kind].number
    return result


class Engine(Protocol):
    """N environments of one family, each with its own task: what `FamilyVectorEnv` steps.

    Attributes:
        tasks: one for each environment.
        values: their parameters, float64 [N, P].
    """

    tasks: tuple[Task, ...]
    values: Array

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give each environment its task, from the next `start` on."""

    def change_tasks(self, indices: Sequence[int], tasks: Sequence[Task]) -> None:
        """Give the environments of ``indices`` other tasks in mid-episode; their states stay."""

    def start(self, index: int, generator: np.random.Generator, seed: int | None = None) -> None:
        """Begin a new episode in environment ``index``; `forward` must follow.

        ``generator`` has just been seeded with ``seed``, or goes on where that is None.
        """

    def forward(self, indices: NDArray[np.intp]) -> None:
        """Compute what follows from the starts of ``indices``."""

    def step(self, actions: NDArray[Any], indices: NDArray[np.intp] | None = None) -> None:
        """Advance all environments, or those of ``indices``, by one step; actions are [N, A]."""

    def state(self) -> State:
        """A copy of what the family's formulas may look at."""

    def diverged(self) -> NDArray[np.bool_] | None:
        """Which environments were found unstable since their last start, bool [N], or None if none was."""

    def data(self, index: int) -> mujoco.MjData:
        """A copy of one environment's `MjData`, for rendering."""

    def close(self) -> None:
        """Release what is held."""


class Simulator:
    """N persistent `MjData`, each with its own task's `MjModel`, stepped by `mujoco.batch` on its threads.

    Results are those of a loop of `mj_step` over one `MjData` each, to the bit and at any number of threads. The data
    is persistent, so that all of it can be looked at between steps, to render it.

    Args:
        family: the family of all tasks.
        tasks: one task per environment.
        num_threads: threads including the caller's; 0 takes all cores.

    Raises:
        MetaMapError: ``num_threads`` is negative.
    """

    def __init__(self, family: Physics, tasks: Sequence[Task], num_threads: int = 0) -> None:
        if num_threads < 0:
            raise MetaMapError(f"num_threads must be 0 (all cores) or more, got {num_threads}")
        self.family = family
        self._open(len(tasks), min(num_threads or default_threads(), len(tasks)))
        self.set_tasks(tasks)
        self._batch.reset()

    def _open(self, count: int, threads: int) -> None:
        """Make the batch, all on the base model, and views of what is read and written."""
        base = self.family.base_model
        self._batch = batch.Batch(base, count, threads, persistent=True)
        self._qpos: Array = self._batch.bind("qpos")
        self._qvel: Array = self._batch.bind("qvel")
        self._control: Array = self._batch.bind("ctrl")
        self._activations: Array = self._batch.bind("act")
        self._readouts = {
            key: (self._batch.bind(readout.field), readout.row(base)) for key, readout in self.family.readouts.items()
        }
        stages = mujoco.mjtStage
        self._stage = (stages.mjSTAGE_VEL if self.family.current_readouts else stages.mjSTAGE_NONE).value
        self._warnings: NDArray[Any] = self._batch.warning[..., 1]  # live counts, [N, kind of warning]
        self.models: list[mujoco.MjModel] = [base] * count
        self._threads_lost = False
        _LIVE.add(self)

    # copies and forks -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What a copy goes on from, to the bit: the batch itself cannot be copied."""
        return {
            "family": self.family,
            "tasks": self.tasks,
            "threads": self.num_threads,
            "state": self._batch.state.copy(),
            "warning": self._batch.warning.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a batch of its own and put it where the original was."""
        self.family = state["family"]
        self._open(len(state["tasks"]), state["threads"])
        self.set_tasks(state["tasks"])
        self._batch.reset()
        self._batch.state[...] = state["state"]
        self._batch.forward()  # for what is bound
        self._batch.state[...] = state["state"]
        self._batch.warning[...] = state["warning"]

    def __copy__(self) -> Simulator:
        """Independent: two simulators cannot share one batch."""
        return copy.deepcopy(self)

    def _leave_threads(self) -> None:
        """In a process just forked: the batch's threads are not there, neither to step nor to be joined at its end."""
        if self._batch.nthread > 1:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._batch._b))  # never destroyed: it would wait for ever
            self._threads_lost = True

    def _regain_threads(self) -> None:
        """A batch of this process's own, at the state that the parent's had."""
        if self._threads_lost:
            self.__setstate__(self.__getstate__())

    # steps ------------------------------------------------------------------------------------------------------------

    @property
    def num_threads(self) -> int:
        """Threads that step, the caller's included."""
        return int(self._batch.nthread)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give each environment its task's model; states stay as they are until the next `start`."""
        self._regain_threads()
        self.tasks = tuple(tasks)
        self.values = np.stack([task.values for task in tasks])
        distinct = {task: self.family.model(task) for task in dict.fromkeys(tasks)}  # equal tasks share one model
        models = [distinct[task] for task in tasks]
        if any(model is not self.family.base_model for model in models + self.models):
            self._batch.set_models(models)
        self.models = models

    def change_tasks(self, indices: Sequence[int], tasks: Sequence[Task]) -> None:
        """Give the environments of ``indices`` other tasks' models in mid-episode; their states stay to the bit.

        Raises:
            MetaMapError: a model has other sizes; nothing is changed then.
        """
        if not len(indices):
            return
        self._regain_threads()
        known = dict(zip(self.tasks, self.models, strict=True))
        models, now = [*self.models], [*self.tasks]
        for index, task in zip(indices, tasks, strict=True):
            if task not in known:
                known[task] = self._checked_model(task)
            models[index], now[index] = known[task], task
        if any(model is not old for model, old in zip(models, self.models, strict=True)):
            self._batch.set_models(models)
        self.models, self.tasks = models, tuple(now)
        self.values = np.stack([task.values for task in now])
        for index, task in zip(indices, tasks, strict=True):
            self.family.carry(task, self._qpos[index], self._qvel[index])
        if self.family.current_readouts:
            self._batch.forward(np.asarray(indices), stage=self._stage)

    def _checked_model(self, task: Task) -> mujoco.MjModel:
        model = self.family.model(task)
        check_layout(self.family.base_model, model, task)
        return model

    def start(self, index: int, generator: np.random.Generator, seed: int | None = None) -> None:
        """Write a new episode's first state into environment ``index``; `forward` must follow."""
        self._regain_threads()
        self._batch.reset(np.array([index]), stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._qpos[index], self._qvel[index] = self.family.initial_state(self.tasks[index], generator)
        if self._activations.shape[1]:
            self._activations[index] = self.family.initial_activations(self.tasks[index], generator)

    def place(self, indices: NDArray[np.intp], qpos: Array, qvel: Array, *, fresh: NDArray[np.bool_]) -> None:
        """Put environments into given states, without activations and warm start.

        Args:
            indices: the environments [M].
            qpos: their positions [M, nq].
            qvel: their velocities [M, nv].
            fresh: whether each state is that of a start [M]. The derived quantities are then of these positions; else
                of those one MuJoCo step before, as `mj_step` leaves them behind.
        """
        self._regain_threads()
        self._batch.reset(indices, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._qpos[indices], self._qvel[indices] = qpos, qvel
        if self._readouts and not self.family.current_readouts:
            for index in indices[~fresh]:
                model = self.models[index]
                mujoco.mj_integratePos(model, self._qpos[index], self._qvel[index], -model.opt.timestep)
        self._batch.forward(indices)
        self._qpos[indices] = qpos

    def rows(self, indices: NDArray[np.intp]) -> Array:
        """Whole states of environments, float64 [M, S], for `restore`."""
        rows: Array = self._batch.state[indices]  # a copy, as the indices are an array
        return rows

    def restore(self, indices: NDArray[np.intp], rows: Array) -> None:
        """Put environments into states that `rows` gave for their tasks, to the bit.

        Derived quantities are those of these positions, where `mj_step` leaves those of one MuJoCo step before.
        """
        self._regain_threads()
        self._batch.reset(indices, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._batch.state[indices] = rows
        self._batch.forward(indices)
        self._batch.state[indices] = rows  # `forward` writes the warm start

    def forward(self, indices: NDArray[np.intp]) -> None:
        """Compute the derived quantities of environments whose state was written."""
        self._batch.forward(indices)

    def step(self, actions: NDArray[np.floating], indices: NDArray[np.intp] | None = None) -> None:
        """Advance the environments (all, or those of ``indices``) by one environment step."""
        self._regain_threads()
        repeats, steps = schedule_of_steps(self.family)
        for _ in range(repeats):
            self._control[...] = self.family.controls(actions, self._activations, self.values)
            self._batch.step(indices, nstep=steps, stage=self._stage)

    def state(self) -> State:
        """A copy of what the family's formulas may look at."""
        readouts = {key: field[:, index].copy() for key, (field, index) in self._readouts.items()}
        return State(self._qpos.copy(), self._qvel.copy(), readouts)

    def diverged(self) -> NDArray[np.bool_] | None:
        """Which environments MuJoCo found unstable since their last start, bool [N], or None if none was."""
        if not self._warnings.any():
            return None
        found: NDArray[np.bool_] = np.logical_or.reduce(self._warnings[:, UNSTABLE] > 0, axis=1)
        return found if found.any() else None

    def close(self) -> None:
        """Nothing to release: the threads end with the simulator."""

    def data(self, index: int) -> mujoco.MjData:
        """A copy of one environment's `MjData`, for rendering."""
        self._regain_threads()
        return self._batch.get_data(index)


_LIVE: weakref.WeakSet[Simulator] = weakref.WeakSet()


def _after_fork() -> None:
    for simulator in _LIVE:
        simulator._leave_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
