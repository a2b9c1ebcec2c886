"""What learners from elsewhere are run on and measured with: a stream of tasks of families, or of environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from metamap_agents.policy.evaluation import run_episodes
from metamap_envs.errors import MetaMapError, one_line
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_rl.bench.contract import Policy, Transitions
from metamap_rl.bench.worlds import FamilyWorld, World
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.scoreboard import Reference, Scoreboard

__all__ = ["Course", "FamilyCourse", "checked_actions"]


class Course(Protocol):
    """A stream of worlds, held-out ones, and how policies are measured on them."""

    @property
    def stream(self) -> Sequence[World]:
        """Worlds in order of arrival."""
        ...

    @property
    def held_out(self) -> Sequence[World]:
        """Worlds that are measured only."""
        ...

    @property
    def lengths(self) -> Sequence[int]:
        """Other lengths of D to measure at in the end."""
        ...

    @property
    def map_steps(self) -> int:
        """Transitions of D."""
        ...

    def hidden(self, world: World) -> World:
        """A world of the same spaces that does not tell the task."""
        ...

    def transitions(self, world: World, steps: int) -> Transitions:
        """D of a world."""
        ...

    def mean_return(self, world: World, policy: Policy, actions: gym.Space[Any]) -> float:
        """Mean return over the episodes of the course, the same for all policies; ``actions`` is the world's space."""
        ...

    def score(self, world: World, mean_return: float) -> float | None:
        """On the scale of the course; None if it has none there."""
        ...

    def gap_closed(self, world: World, mean_return: float) -> float | None:
        """Share of the gap between base policy and expert; None without one."""
        ...

    def fields(self) -> dict[str, Any]:
        """Fields of the `CellResult` on tasks: config, seed, environments, tasks, families, held_out."""
        ...


@dataclass(frozen=True)
class FamilyCourse:
    """A stream of tasks of families, with the tasks, probes, episodes and scores that mappers have."""

    plan: StreamPlan

    @classmethod
    def of(cls, config: StreamConfig, zoo: Path) -> FamilyCourse:
        """Of a stream's config; the experts of the scores are in the cache ``zoo``.

        Raises:
            MetaMapError: a config without scores.
        """
        if not config.evaluation.reference:
            raise MetaMapError("evaluation.reference: a benchmark needs scores, so it must be true")
        return cls(StreamPlan.of(config, zoo))

    @cached_property
    def stream(self) -> list[World]:
        """See `Course`."""
        return [FamilyWorld(task) for task in self.plan.tasks]

    @cached_property
    def held_out(self) -> list[World]:
        """See `Course`."""
        return [FamilyWorld(task) for task in self.plan.held_out]

    @property
    def lengths(self) -> Sequence[int]:
        """See `Course`."""
        return self.plan.config.evaluation.lengths

    @property
    def map_steps(self) -> int:
        """See `Course`."""
        return self.plan.config.map_steps

    def hidden(self, world: World) -> World:
        """With the family's default parameters."""
        return FamilyWorld(get_family(_task(world).family).task())

    def transitions(self, world: World, steps: int) -> Rollout:
        """D of the probe, as mappers get it."""
        found = self._rollouts[_task(world)]
        arrays: dict[str, Any] = {name: array[:steps] for name, array in found.arrays().items()}
        return Rollout(found.family, **arrays)

    def mean_return(self, world: World, policy: Policy, actions: gym.Space[Any]) -> float:
        """In the fast simulator."""

        def act(seen: NDArray[np.float64]) -> NDArray[Any]:
            found, _ = policy.predict(seen[0].astype(np.float32))
            return checked_actions(found, seen.shape[1], actions)[None]

        own = self._boards[0]
        return float(run_episodes([_task(world)], act, own.episodes, own.episode_seed, num_threads=1).returns.mean())

    def score(self, world: World, mean_return: float) -> float | None:
        """Expert-normalised."""
        return self._references[_task(world).id].score(mean_return)

    def gap_closed(self, world: World, mean_return: float) -> float | None:
        """See `Course`."""
        return self._references[_task(world).id].gap_closed(mean_return)

    def fields(self) -> dict[str, Any]:
        """See `Course`."""
        return {
            "config": self.plan.config.resolved(),
            "seed": self.plan.config.seeds.stream,
            "environments": self.plan.environments,
            "tasks": [task.id for task in self.plan.tasks],
            "families": [task.family for task in self.plan.tasks],
            "held_out": [task.family for task in self.plan.held_out],
        }

    @cached_property
    def _boards(self) -> list[Scoreboard]:
        return [board for board in self.plan.boards(num_threads=1) if board is not None]

    @cached_property
    def _references(self) -> dict[str, Reference]:
        return {name: found for board in self._boards for name, found in board.references.items()}

    @cached_property
    def _rollouts(self) -> dict[Task, Rollout]:
        longest = max(self.map_steps, *self.lengths, 1)
        return {task: rollout for board in self._boards for task, rollout in board.rollouts(longest).items()}


def _task(world: World) -> Task:
    assert isinstance(world, FamilyWorld), "a course of families"
    return world.task


def checked_actions(actions: Any, count: int, space: gym.Space[Any]) -> NDArray[Any]:
    """Validate a learner's actions.

    Raises:
        MetaMapError: another shape, not finite, or no action of the space.
    """
    shape = (count, *(space.shape or ()))
    try:
        array = np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetaMapError(f"predict: expected numbers {list(shape)} as actions ({one_line(error)})") from error
    if array.shape != shape or not np.isfinite(array).all():
        got = f"shape {list(array.shape)}" if array.shape != shape else "infinite ones or NaN"
        raise MetaMapError(f"predict: expected finite actions {list(shape)}, got {got}")
    if isinstance(space, Box):
        return array
    assert isinstance(space, Discrete), "worlds have no other actions"
    if not (np.isin(array, np.arange(space.n))).all():
        raise MetaMapError(f"predict: expected actions from 0 to {space.n - 1}, got {array.ravel()[:8].tolist()}")
    return array.astype(np.int64)
