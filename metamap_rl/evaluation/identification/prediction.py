"""Outcomes of recorded transitions under other tasks, simulated from the recorded states."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.simulator import Simulator
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["SIMPLER_MODELS", "Predictor", "holds_state", "model_of"]

_ROWS = 64  # environments simulated at once
_MODELS = 512  # compiled models that are kept
_KNOWN = 512  # simulated tasks that are kept
_FLOOR = 1e-3  # of the typical change: scale of an outcome that does not vary
_REWARD_FLOOR = 1e-5  # of the size of the rewards: well above their rounding
_DIVERGED = 1e3  # largest residual, and that of a simulation that MuJoCo found unstable


def holds_state(family: Family) -> bool:
    """Whether observations of a family hold the state, so that transitions can be simulated from them."""
    nothing = np.zeros((1, family.observation_size))
    return family.states_of(nothing, family.task().values[None]) is not None


SIMPLER_MODELS = {"cheetah-actuators-delay": "cheetah-actuators"}
"""Families whose observations do not hold the state, and those whose simulator has all but what is hidden."""


def model_of(family: Family) -> Family | None:
    """The family whose simulator identifies tasks of a family: itself, a simpler one, or None if there is none."""
    if holds_state(family):
        return family
    return get_family(SIMPLER_MODELS[family.name]) if family.name in SIMPLER_MODELS else None


class Predictor:
    """One-step predictions of a rollout's next observations and rewards under candidate tasks.

    Each transition is simulated from the state that its observation holds (`Family.states_of`), and scored by the
    family's own reward formula.

    Args:
        rollout: n transitions.
        most: largest number of transitions that are used, evenly spaced; None for all.
        model_error: relative error of the simulator's masses, inertias and joint damping, for a wrong model.
        from_reset: whether the first transition starts an episode.
        num_threads: threads of the simulator; 0 takes all cores.

    Attributes:
        family: the family.
        rows: indices of the transitions used; those whose observation does not hold the state are left out.
        count: their number m.
        steps: environment steps simulated so far.

    Raises:
        MetaMapError: a family whose observations do not hold the state.
    """

    def __init__(
        self,
        rollout: Rollout,
        *,
        most: int | None = None,
        model_error: float = 0.0,
        from_reset: bool = True,
        num_threads: int = 1,
    ) -> None:
        self.family = family = get_family(rollout.family)
        if not holds_state(family):
            raise MetaMapError(
                f"{family.name!r}: system identification needs the full state, which the observations do not hold"
            )
        self.steps = 0
        self._physics, self._threads = _physics(rollout.family, model_error), num_threads
        rows, fresh = _usable(family, rollout, from_reset, most)
        self.rows, self.count = rows, len(rows)
        self._fresh = fresh[rows]
        self._actions = rollout.actions[rows]
        self._observations = rollout.observations[rows].astype(np.float64)
        following, rewards = (
            rollout.next_observations[rows].astype(np.float64),
            rollout.rewards[rows].astype(np.float64),
        )
        self._outcomes = np.concatenate([following, rewards[:, None]], axis=1)
        self._scales = _scales(following - self._observations, rewards)
        self._known: dict[tuple[Any, ...], tuple[State, State, NDArray[np.bool_]]] = {}

    def residuals(self, tasks: Sequence[Task], chosen: NDArray[np.intp] | None = None) -> Array:
        """Errors of predicted next observations and rewards, in units of their change within the rollout.

        Args:
            tasks: C candidate tasks of the family.
            chosen: indices of some of the m transitions; default all.

        Returns:
            [C, m, O + 1]; the reward is last.
        """
        rows = np.arange(self.count) if chosen is None else chosen
        states = [self._states(task, rows) for task in tasks]
        keys = [self._key(task, state, rows) for task, state in zip(tasks, states, strict=True)]
        missing = {key: index for index, key in enumerate(keys) if key not in self._known}
        if len(self._known) > _KNOWN:
            self._known = {key: self._known[key] for key in keys if key in self._known}
        self._simulate(missing, tasks, states, rows)
        found = np.empty((len(tasks), len(rows), self._outcomes.shape[1]))
        for index, (task, key) in enumerate(zip(tasks, keys, strict=True)):
            before, after, diverged = self._known[key]
            values = np.tile(task.values, (len(rows), 1))
            rewards, _ = self.family.reward(before, after, self._actions[rows], values)
            predicted = np.concatenate([self.family.observed(after, values), rewards[:, None]], axis=1)
            error = np.clip((predicted - self._outcomes[rows]) / self._scales, -_DIVERGED, _DIVERGED)
            found[index] = np.where(diverged[:, None], _DIVERGED, error)
        return found

    def _states(self, task: Task, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        states = self.family.states_of(self._observations[rows], np.tile(task.values, (len(rows), 1)))
        assert states is not None, "checked"
        return states

    def _key(self, task: Task, state: tuple[Array, Array], rows: NDArray[np.intp]) -> tuple[Any, ...]:
        """What a simulation depends on: a task that differs in its reward alone is not simulated again."""
        physics = tuple(task[name] for name in self.family.space.names if name in self.family.physics_parameters)
        return physics, rows.tobytes(), *(hash(part.tobytes()) for part in state)

    def _simulate(
        self,
        missing: Mapping[tuple[Any, ...], int],
        tasks: Sequence[Task],
        states: Sequence[tuple[Array, Array]],
        rows: NDArray[np.intp],
    ) -> None:
        """Add the outcomes of tasks, by key, to what is known; in batches of `_ROWS` environments."""
        if not missing:
            return
        indices = list(missing.values())
        each = [tasks[index] for index in indices for _ in rows]
        qpos, qvel = (np.concatenate([states[index][part] for index in indices]) for part in (0, 1))
        actions, fresh = np.tile(self._actions[rows], (len(indices), 1)), np.tile(self._fresh[rows], len(indices))
        simulator, parts = self._physics.simulator(self._threads), []
        size = len(simulator.tasks)
        for start in range(0, len(each), size):
            where = np.minimum(np.arange(start, start + size), len(each) - 1)  # the last one fills the batch
            simulator.set_tasks([each[row] for row in where])
            moving = np.arange(min(size, len(each) - start))
            used = where[moving]
            simulator.place(moving, qpos[used], qvel[used], fresh=fresh[used])
            before = simulator.state()
            simulator.step(actions[where], moving)
            diverged = simulator.diverged()
            parts.append((before, simulator.state(), np.zeros(size, np.bool_) if diverged is None else diverged))
        self.steps += len(each)
        befores, afters, flags = zip(*parts, strict=True)
        before, after, flag = _joined(befores), _joined(afters), np.concatenate(flags)
        for place, key in enumerate(missing):
            part = slice(place * len(rows), (place + 1) * len(rows))
            self._known[key] = _cut(before, part), _cut(after, part), flag[part]


def _usable(
    family: Family, rollout: Rollout, from_reset: bool, most: int | None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Indices of the transitions to use, and for all whether each starts an episode."""
    count = len(rollout)
    ends = (rollout.terminated | rollout.truncated)[:-1]
    fresh = np.concatenate([np.full(min(count, 1), from_reset), ends]).astype(np.bool_)
    values = np.tile(family.task().values, (count, 1))
    states = family.states_of(rollout.observations.astype(np.float64), values)
    assert states is not None, "checked"
    rows = np.flatnonzero(np.isfinite(np.concatenate(states, axis=1)).all(axis=1))
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]
    return rows, fresh


def _scales(changes: Array, rewards: Array) -> Array:
    """Units of the outcomes [O + 1]: root mean square of the changes, standard deviation of the rewards."""
    if not len(rewards):
        return np.ones(changes.shape[1] + 1)
    each = np.sqrt(np.mean(changes**2, axis=0))
    reward = rewards.std() + _REWARD_FLOOR * (1.0 + np.abs(rewards).mean())
    return np.append(each + _FLOOR * np.sqrt(np.mean(each**2)) + 1e-9, reward)


def _joined(states: Sequence[State]) -> State:
    readouts = {key: np.concatenate([state.readouts[key] for state in states]) for key in states[0].readouts}
    return State(
        np.concatenate([state.qpos for state in states]), np.concatenate([state.qvel for state in states]), readouts
    )


def _cut(state: State, part: slice) -> State:
    return State(state.qpos[part], state.qvel[part], {key: found[part] for key, found in state.readouts.items()})


class _Physics:
    """A family's physics with a relative error of masses, inertias and joint damping; keeps recent models."""

    def __init__(self, family: Family, error: float) -> None:
        self.family, self.error = family, error
        self._data = mujoco.MjData(family.base_model)  # to derive constants in, of any model of the family
        self.base_model = self._with_error(copy.copy(family.base_model))
        self.frame_skip, self.inner_loop = family.frame_skip, family.inner_loop
        self.readouts: Mapping[str, Readout] = family.readouts
        self.current_readouts = family.current_readouts
        self._simulators: dict[int, Simulator] = {}
        self._models = lru_cache(maxsize=_MODELS)(self._make)

    def simulator(self, threads: int) -> Simulator:
        """A simulator of `_ROWS` environments, kept: to make one takes longer than to step it."""
        if threads not in self._simulators:
            self._simulators[threads] = Simulator(self, [self.family.task()] * _ROWS, threads)
        return self._simulators[threads]

    def model(self, task: Task) -> mujoco.MjModel:
        """The model of a task; one for all tasks of the same physics."""
        names = self.family.physics_parameters
        return self._models(self.family.task({name: value for name, value in task.parameters if name in names}))

    def _make(self, task: Task) -> mujoco.MjModel:
        found = self.family.model(task)
        return self.base_model if found is self.family.base_model else self._with_error(found)

    def _with_error(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """The model itself, which is of this simulator alone, made wrong."""
        if self.error:
            model.body_mass[:] *= 1.0 + self.error
            model.body_inertia[:] *= 1.0 + self.error
            model.dof_damping[:] *= 1.0 + self.error
            mujoco.mj_setConst(model, self._data)
        return model

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """As the family's."""
        return self.family.initial_state(task, generator)

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array:
        """As the family's."""
        return self.family.initial_activations(task, generator)

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> NDArray[Any]:
        """As the family's."""
        return self.family.controls(actions, activations, values)

    def carry(self, task: Task, qpos: Array, qvel: Array) -> None:
        """As the family's."""
        self.family.carry(task, qpos, qvel)


@lru_cache(maxsize=4)
def _physics(family: str, error: float) -> _Physics:
    return _Physics(get_family(family), error)
