"""Trials of service in the simulator: tasks change while controllers act, each in its own environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.vector import VectorAdapter

__all__ = ["AdapterController", "Controller", "PolicyController", "SwapCounter", "Trial", "run_trial"]

Floats = NDArray[np.float32]
Values = NDArray[Any]
OnStep = Callable[[int, "Trial"], None]
"""Called after each step with (steps taken, the record so far; later steps hold zeros)."""


class Controller(Protocol):
    """What acts in N environments."""

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """Before a step: the tasks of all environments, and which of them have just changed; for privileged ones."""

    def reset(self, observations: Values, where: NDArray[np.bool_]) -> None:
        """Start episodes in some environments."""

    def act(self, observations: Values) -> Floats:
        """Actions [N, A]."""

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """Outcome of the actions: arguments of `VectorAdapter.observe`."""

    @property
    def beliefs(self) -> tuple[Belief, ...]:
        """Of an adapter in each environment; empty for others."""


class SwapCounter(Controller, Protocol):
    """A controller that counts how often it exchanged its policies."""

    @property
    def swaps(self) -> Sequence[int]:
        """Changes of the weights so far, in each environment."""


class AdapterController:
    """Adapters as a controller.

    Args:
        adapters: one for each environment.
        known_changes: tell them when the task changes.
        hold: keep the policy that acts when the task first changes.
    """

    def __init__(self, adapters: VectorAdapter, *, known_changes: bool = False, hold: bool = False) -> None:
        self.adapters, self._known, self._hold = adapters, known_changes, hold

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        for index in np.flatnonzero(changed):
            if self._known:
                self.adapters.adapters[index].task_changed()
            if self._hold:
                self.adapters.adapters[index].hold = True

    def reset(self, observations: Values, where: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        self.adapters.reset(observations, where)

    def act(self, observations: Values) -> Floats:
        """See `Controller`."""
        return self.adapters.act(observations)

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        rewards = step.pop("rewards")
        blind = not self.adapters.adapters[0].mapper.config.reward
        self.adapters.observe(None if blind else rewards, **step)

    @property
    def beliefs(self) -> tuple[Belief, ...]:
        """See `Controller`."""
        return self.adapters.beliefs

    @property
    def swaps(self) -> Sequence[int]:
        """See `SwapCounter`."""
        return [belief.swaps for belief in self.beliefs]


class PolicyController:
    """The base policy, or with ``expert`` a privileged policy that is exchanged when the task changes.

    Args:
        base: the base policy.
        count: number of environments.
        expert: weights [P] for a task; None for the base policy throughout.
        delay: steps from a change of the task to that of the policy.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(
        self, base: BasePolicy, count: int, expert: Callable[[Task], Floats] | None = None, delay: int = 0
    ) -> None:
        self._base, self._expert, self._delay = base, expert, delay
        self._networks = RowwiseNetworks(base.spec, base.policies(np.tile(base.phi, (count, 1))).folded())
        self._due: list[tuple[int, Task] | None] = [None] * count
        self._started = False
        self.swaps: Sequence[int] = [0] * count
        """See `SwapCounter`."""

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        if self._expert is None:
            return
        for index, task in enumerate(tasks):
            if changed[index] or not self._started:
                self._due[index] = (self._delay if self._started else 0, task)
            due = self._due[index]
            if due is None:
                continue
            if due[0]:
                self._due[index] = due[0] - 1, due[1]
                continue
            self._networks.replace(index, self._base.policies(self._expert(due[1])).folded())
            self._due[index] = None
            self.swaps = [count + (place == index and self._started) for place, count in enumerate(self.swaps)]
        self._started = True

    def reset(self, observations: Values, where: NDArray[np.bool_]) -> None:
        """See `Controller`."""

    def act(self, observations: Values) -> Floats:
        """See `Controller`."""
        return np.clip(self._networks(observations[:, None])[:, 0], -1.0, 1.0)

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Record of a controller in N environments.

    Attributes:
        rewards: float64 [n, N].
        ended: whether an episode ended with the step, bool [n, N].
        seconds: CPU time of the controller in each step, to act and to observe, float64 [n].
        beliefs: of adapters after each step, [n][N]; empty tuples for others.
        positions: qpos before the first step and after each, float64 [n + 1, N, nq]; empty if not recorded.
    """

    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    beliefs: list[tuple[Belief, ...]]
    positions: list[NDArray[np.float64]]


def run_trial(
    controller: Controller,
    tasks: Sequence[Sequence[Task]],
    *,
    seeds: Sequence[int],
    positions: bool = False,
    num_threads: int = 1,
    on_step: OnStep | None = None,
) -> Trial:
    """Let a controller act while tasks change; the state is kept at a change. An episode that ends is started anew.

    Args:
        controller: acts in N environments.
        tasks: task of each step and environment, [n][N].
        seeds: of the first reset, one for each environment.
        positions: record positions.
        num_threads: of the simulator.
        on_step: progress.

    Raises:
        MetaMapError: no steps, or another number of tasks or seeds.
    """
    if not tasks or any(len(row) != len(seeds) for row in tasks):
        raise MetaMapError(f"trial: expected tasks of {len(seeds)} environments for at least one step")
    env = FamilyVectorEnv(tasks[0], num_threads=num_threads, autoreset_mode="disabled", horizon=len(tasks) + 1)
    observations, _ = env.reset(seed=list(seeds))
    everywhere = np.ones(len(seeds), dtype=np.bool_)
    controller.tasks_change(tasks[0], ~everywhere)
    controller.reset(observations, everywhere)
    shape = len(tasks), len(seeds)
    trial = Trial(
        np.zeros(shape),
        np.zeros(shape, dtype=np.bool_),
        np.zeros(len(tasks)),
        [],
        [_positions(env)] if positions else [],
    )
    for step, row in enumerate(tasks):
        if step:
            changed = np.array([new != old for new, old in zip(row, tasks[step - 1], strict=True)])
            if changed.any():
                env.set_tasks([task for task, new in zip(row, changed, strict=True) if new], changed)
            controller.tasks_change(row, changed)
        observations = _step(env, controller, observations, trial, step, keep=positions)
        if on_step is not None:
            on_step(step + 1, trial)
    env.close()
    return trial


def _step(
    env: FamilyVectorEnv, controller: Controller, observations: Values, trial: Trial, step: int, *, keep: bool
) -> Values:
    """One step of all environments; returns the observations to act on."""
    begin = time.thread_time()
    actions = controller.act(observations)
    acted = time.thread_time() - begin
    after, rewards, terminated, truncated, infos = env.step(actions)
    sound = ~infos.get("diverged", np.zeros(env.num_envs, dtype=np.bool_))
    ended = terminated | truncated
    outcome = {"rewards": rewards, "next_observations": after, "terminated": terminated, "truncated": truncated}
    begin = time.thread_time()
    controller.observe({**outcome, "valid": sound})
    trial.seconds[step] = acted + time.thread_time() - begin
    trial.rewards[step], trial.ended[step] = rewards, ended
    trial.beliefs.append(controller.beliefs)
    if keep:
        trial.positions.append(_positions(env))
    if ended.any():
        after, _ = env.reset(options={"reset_mask": ended})
        controller.reset(after, ended)
    found: Values = after
    return found


def _positions(env: FamilyVectorEnv) -> NDArray[np.float64]:
    found: NDArray[np.float64] = env.simulator.state().qpos
    if not found.shape[1]:  # those of declared Gymnasium environments stay inside them
        found = np.stack([env.simulator.data(index).qpos for index in range(env.num_envs)])
    return found
