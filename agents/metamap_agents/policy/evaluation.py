"""Returns and visited states of many policies on many tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.policies import Policies, accepts_triple
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = [
    "LEVEL",
    "ROUNDING",
    "Episodes",
    "clearly_better",
    "clearly_better_each",
    "evaluate_policies",
    "random_returns",
    "run_episodes",
]


Act = Callable[[NDArray[np.float64]], NDArray[Any]]

LEVEL = 0.025
"""Level of the one-sided paired test of two policies; see `clearly_better_each`."""

ROUNDING = 1e-6
"""Relative difference below which returns count as equal."""


@dataclass(frozen=True)
class Episodes:
    """E episodes on each of T tasks.

    Attributes:
        returns: undiscounted returns, float64 [T, E].
        lengths: number of steps of each episode, int64 [T, E].
        observations: raw observations before each step, float32 [T, E, H, O]; None if not recorded. Rows from
            the length of an episode on are undefined.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    observations: NDArray[np.float32] | None = None

    def states(self, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Draw ``count`` visited observations of each task without replacement, float32 [T, count, O].

        Raises:
            MetaMapError: nothing was recorded, or a task has fewer than ``count``.
        """
        if self.observations is None:
            raise MetaMapError("episodes: expected recorded observations, these were run without record=True")
        tasks, _, horizon, size = self.observations.shape
        chosen = np.empty((tasks, count, size), dtype=np.float32)
        alive = np.arange(horizon) < self.lengths[:, :, None]
        for index in range(tasks):
            visited = self.observations[index][alive[index]]
            if len(visited) < count:
                raise MetaMapError(f"states: expected at least {count} of each task, task {index} has {len(visited)}")
            chosen[index] = visited[generator.choice(len(visited), count, replace=False)]
        return chosen


def run_episodes(
    tasks: Sequence[Task],
    act: Act,
    episodes: int,
    seed: int,
    *,
    num_threads: int = 0,
    record: bool = False,
    on_rewards: Callable[[NDArray[np.float64]], None] | None = None,
    horizon: int | None = None,
) -> Episodes:
    """Run E episodes on each task, with all T x E environments in lockstep.

    Args:
        tasks: T tasks of one family.
        act: maps raw observations, float64 [T, E, O], to actions [T, E, A].
        episodes: E; episode e of every task is reset with ``seed + e``.
        seed: first reset seed.
        num_threads: threads of the simulator; 0 takes all cores.
        record: whether to keep the observations.
        on_rewards: called with the rewards [T, E] of each step, for recurrent policies.
        horizon: steps after which an episode is cut short; default the family's.

    Raises:
        MetaMapError: no tasks, or ``episodes`` below 1.
    """
    seed = read_seed(seed)
    if episodes < 1:
        raise MetaMapError(f"the number of episodes must be at least 1, got {episodes}")
    envs = FamilyVectorEnv(
        [task for task in tasks for _ in range(episodes)],
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,  # goes on where other episodes are still running
        horizon=horizon,
    )
    shape = (len(tasks), episodes)
    observations, _ = envs.reset(seed=[seed + episode for _ in tasks for episode in range(episodes)])
    returns, lengths = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    running = np.ones(shape, dtype=np.bool_)
    recorded = []
    while running.any():
        per_task = observations.reshape(*shape, -1)
        if record:
            recorded.append(per_task.astype(np.float32))
        actions = act(per_task)
        observations, rewards, terminated, truncated, _ = envs.step(actions.reshape(len(tasks) * episodes, -1))
        if on_rewards is not None:
            on_rewards(rewards.reshape(shape))
        returns += rewards.reshape(shape) * running
        lengths += running
        running &= ~(terminated | truncated).reshape(shape)
    envs.close()
    return Episodes(returns, lengths, np.stack(recorded, axis=2) if record else None)


@accepts_triple(1)
def evaluate_policies(
    tasks: Sequence[Task],
    policies: Policies,
    *,
    episodes: int = 10,
    seed: int = EVALUATION_SEED,
    num_threads: int = 0,
    record: bool = False,
) -> Episodes:
    """Run policy t on task t, without noise.

    Args:
        tasks: T tasks of one family.
        policies: T policies, or one for all tasks.
        episodes: episodes of each task.
        seed: first reset seed.
        num_threads: threads of the simulator; 0 takes all cores.
        record: whether to keep the observations.

    Raises:
        MetaMapError: no tasks, ``episodes`` below 1, or not one policy for each task.
    """
    seed = read_seed(seed)
    phi = policies.phi.astype(np.float32)
    if phi.ndim == 1:
        phi = np.tile(phi, (len(tasks), 1))
    if len(phi) != len(tasks):
        raise MetaMapError(f"policies: expected one policy for each of {len(tasks)} tasks, got {len(phi)}")
    policy = BatchedPolicy(replace(policies, phi=phi))
    return run_episodes(tasks, policy, episodes, seed, num_threads=num_threads, record=record)


def clearly_better(returns: ArrayLike, others: ArrayLike) -> bool:
    """Return whether a policy is better than another on one task, from returns [E]; see `clearly_better_each`."""
    return bool(clearly_better_each(np.atleast_1d(returns)[None], np.atleast_1d(others)[None])[0])


def clearly_better_each(returns: ArrayLike, others: ArrayLike, *, level: float = LEVEL) -> NDArray[np.bool_]:
    """Test for each task whether a policy is better than another: a one-sided paired t-test over shared reset seeds.

    The test is on the mean difference of returns, by default at level 2.5 %: the two-sided 95 % interval of the mean
    difference lies above 0. With 10 episodes its power is about 0.8 for a difference of one standard deviation of the
    paired differences, and of 16 tasks without a difference it reports 0.4 on average. Relative differences below
    `ROUNDING` count as 0. A single episode is never enough; where all differences are equal (a deterministic
    environment), any positive difference is.

    Args:
        returns: float [..., E], E episodes of each task.
        others: returns of the other policy on the same reset seeds, of the same shape.
        level: one-sided level of the test, in (0, 1).

    Returns:
        Bool [...].

    Raises:
        MetaMapError: shapes that differ, no episodes, or a return that is not finite.
    """
    ours, theirs = np.asarray(returns, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if ours.shape != theirs.shape or ours.ndim == 0 or ours.shape[-1] == 0:
        raise MetaMapError(
            f"returns: expected two arrays [..., episodes] of one shape, got {ours.shape} and {theirs.shape}"
        )
    for array in (ours, theirs):
        if not np.isfinite(array).all():
            raise MetaMapError(f"returns: {int((~np.isfinite(array)).sum())} of {array.size} episodes are not finite")
    count = ours.shape[-1]
    if count == 1:
        return np.zeros(ours.shape[:-1], dtype=np.bool_)
    differences = ours - theirs
    differences[np.abs(differences) <= ROUNDING * np.maximum(np.abs(ours), np.abs(theirs))] = 0.0
    error = differences.std(axis=-1, ddof=1) / np.sqrt(count)
    better: NDArray[np.bool_] = differences.mean(axis=-1) > _critical_value(count - 1, level) * error
    return better


@cache
def _critical_value(degrees: int, level: float) -> float:
    """Upper quantile of Student's t distribution."""
    from scipy.stats import t  # takes half a second, so only where needed

    return float(t.isf(level, degrees))


def random_returns(
    tasks: Sequence[Task], *, episodes: int = 10, seed: int = EVALUATION_SEED, num_threads: int = 0
) -> NDArray[np.float64]:
    """Run uniform random actions in [-1, 1], the zero of the expert-normalised score; returns [T, E]."""
    seed = read_seed(seed)
    generator = np.random.default_rng(seed)

    def act(seen: NDArray[np.float64]) -> NDArray[np.float64]:
        return generator.uniform(-1.0, 1.0, (*seen.shape[:2], get_family(tasks[0].family).action_size))

    return run_episodes(tasks, act, episodes, seed, num_threads=num_threads).returns
