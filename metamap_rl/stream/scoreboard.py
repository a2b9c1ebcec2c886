"""The scoreboard of a stream: evaluates generated policies on fixed tasks with fixed rollouts.

Hidden from the mapper and its learner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import clearly_better_each, evaluate_policies, random_returns
from metamap_agents.runtime.seeds import EVALUATION_SEED, STREAM_PROBES
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.scores import old_rule
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.probes import Probe
from metamap_rl.stream.experts import ExpertCache
from metamap_rl.stream.record import EvaluationRow

__all__ = ["Generate", "Reference", "Scoreboard", "embodiment_of"]

Generate = Callable[[str, Tensor], NDArray[np.float32]]
"""Maps (embodiment, feature rows [B, k, F]) to weights [B, P]."""

Returns = Callable[[str, Sequence[Task]], NDArray[np.float64]]
"""Maps (family, B tasks) to the mean returns [B] of policies for them."""

_SEED_STRIDE = 10_000  # distance between the reset seeds of evaluation seeds


def embodiment_of(task: Task) -> str:
    """The embodiment of a task."""
    return get_family(task.family).embodiment


@dataclass(frozen=True)
class Reference:
    """Reference returns of scores, means over the scoreboard's episodes."""

    random: float
    """Mean return of uniform random actions: score 0."""
    base: float
    """Mean return of phi_0."""
    expert: float
    """Mean return of phi*: score 1."""
    better: bool | None = None
    """Whether phi* is better than phi_0 in the paired test over these episodes; None in older runs."""

    def score(self, mean_return: float) -> float | None:
        """``(J - J_random) / (J_expert - J_random)``; None if the expert is no better than random actions."""
        reach = self.expert - self.random
        return (mean_return - self.random) / reach if reach > 0 else None

    def gap_closed(self, mean_return: float) -> float | None:
        """``(J - J_base) / (J_expert - J_base)``; None without a gap, as in `scores.Evaluation`."""
        counted = bool(old_rule(self.random, self.base, self.expert)) if self.better is None else self.better
        return (mean_return - self.base) / (self.expert - self.base) if counted else None


@dataclass(frozen=True)
class Scoreboard:
    """Evaluates policies on T tasks with one rollout D each."""

    tasks: tuple[Task, ...]
    split: Literal["stream", "held-out"]
    cache: ExpertCache
    probe: Probe
    steps: int
    """k, transitions of D."""
    episodes: int
    seed: int
    num_threads: int = 0
    lengths: tuple[int, ...] = ()
    """Other k, for `measure_lengths`."""
    with_experts: bool = True
    """Whether to measure experts, for scores; else returns only."""

    @cached_property
    def _distinct(self) -> dict[str, list[Task]]:
        """Distinct tasks by family."""
        families: dict[str, list[Task]] = {}
        for task in dict.fromkeys(self.tasks):
            families.setdefault(task.family, []).append(task)
        return families

    @cached_property
    def _features(self) -> dict[str, Tensor]:
        """D of each family's tasks [B, k, F], collected once, since the probe does not depend on the mapper."""
        return _features(self._collect(self.steps))

    @cached_property
    def _longest(self) -> dict[str, Tensor]:
        """D of the longest of `lengths`; a shorter D is its prefix."""
        return _features(self._collect(max(self.lengths)))

    def _collect(self, steps: int) -> dict[str, Rollouts]:
        seed, found = STREAM_PROBES + _SEED_STRIDE * self.seed, {}
        for family, tasks in self._distinct.items():
            base = self.cache.base(get_family(family).embodiment)
            seen = collect(self.probe, tasks, base, steps=steps, seed=seed, num_threads=self.num_threads)
            found[family] = seen
        return found

    def rollouts(self, steps: int) -> dict[Task, Rollout]:
        """D of each task with ``steps`` transitions, without the task."""
        found = {}
        for seen in self._collect(steps).values():
            for index, task in enumerate(seen.tasks):
                found[task] = replace(seen.rollout(index), task=None)
        return found

    @cached_property
    def references(self) -> dict[str, Reference]:
        """Random, base and expert returns by the tasks' ids; empty without experts."""
        found: dict[str, Reference] = {}
        for family, tasks in self._distinct.items() if self.with_experts else ():
            base = self.cache.base(get_family(family).embodiment)
            experts = np.stack([self.cache.expert(task).phi for task in tasks])
            expert, start = self._episodes(tasks, base, experts), self._episodes(tasks, base, base.phi)
            better = clearly_better_each(expert, start)
            for index, task in enumerate(tasks):
                # One task at a time, so that the random actions of a task do not depend on the other tasks.
                zero = random_returns([task], episodes=self.episodes, seed=self.episode_seed).mean()
                means = float(zero), float(start[index].mean()), float(expert[index].mean())
                found[task.id] = Reference(*means, better=bool(better[index]))
        return found

    def with_references(self, references: Mapping[str, Reference]) -> None:
        """Return a scoreboard with references measured before."""
        self.__dict__["references"] = dict(references)

    @property
    def episode_seed(self) -> int:
        """First reset seed of the episodes, the same for all policies."""
        return EVALUATION_SEED + _SEED_STRIDE * self.seed

    def _returns(self, tasks: Sequence[Task], base: BasePolicy, phis: NDArray[Any]) -> NDArray[np.float64]:
        """Mean returns [B]."""
        means: NDArray[np.float64] = self._episodes(tasks, base, phis).mean(axis=1)
        return means

    def _episodes(self, tasks: Sequence[Task], base: BasePolicy, phis: NDArray[Any]) -> NDArray[np.float64]:
        """Returns of every episode [B, E]."""
        return evaluate_policies(
            tasks,
            base.policies(phis),
            episodes=self.episodes,
            seed=self.episode_seed,
            num_threads=self.num_threads,
        ).returns

    def generate(self, generate: Generate, task: Task) -> NDArray[np.float32]:
        """The weights [P] that are evaluated for one of ``tasks``: generated from its D."""
        row = self._distinct[task.family].index(task)
        features = self._features[task.family][row : row + 1]
        weights: NDArray[np.float32] = generate(embodiment_of(task), features)[0]
        return weights

    def measure(self, generate: Generate, stage: int, positions: Sequence[int] | None = None) -> list[EvaluationRow]:
        """Generate a policy for each task from its D, and evaluate it.

        Args:
            generate: the mapper.
            stage: last finished stage; 0 before the first.
            positions: indices of ``tasks``; default all.

        Returns:
            One row per index, in the order of ``tasks``.
        """
        wanted = range(len(self.tasks)) if positions is None else positions
        return self._measure(self._generated(generate, self._features), stage, wanted, self.steps, self.split)

    def measure_lengths(
        self, generate: Generate, stage: int, positions: Sequence[int] | None = None
    ) -> list[EvaluationRow]:
        """`measure` from D of each of `lengths`; the rows are of the split "next" or "lengths".

        All lengths are evaluated side by side, faster than one after the other.
        """
        wanted = range(len(self.tasks)) if positions is None else positions
        chosen = {self.tasks[position] for position in wanted}
        found: dict[str, NDArray[np.float64]] = {}
        for family, tasks in self._distinct.items():
            if some := [index for index, task in enumerate(tasks) if task in chosen]:
                embodiment, longest = get_family(family).embodiment, self._longest[family][some]
                phis = np.concatenate([generate(embodiment, longest[:, :steps]) for steps in self.lengths])
                repeated = [tasks[index] for index in some] * len(self.lengths)
                returns = self._returns(repeated, self.cache.base(embodiment), phis)
                found[family] = returns.reshape(len(self.lengths), len(some))
        split = "next" if self.split == "stream" else "lengths"

        def at(index: int) -> Returns:
            return lambda family, tasks: found[family][index]

        rows = []
        for index, steps in enumerate(self.lengths):
            rows += self._measure(at(index), stage, wanted, steps, split)
        return rows

    def _generated(self, generate: Generate, features: Mapping[str, Tensor]) -> Returns:
        """Returns of the policies generated from D, by family."""

        def returns(family: str, tasks: Sequence[Task]) -> NDArray[np.float64]:
            rows = [self._distinct[family].index(task) for task in tasks]
            embodiment = get_family(family).embodiment
            return self._returns(tasks, self.cache.base(embodiment), generate(embodiment, features[family][rows]))

        return returns

    def _measure(
        self,
        returns: Returns,
        stage: int,
        wanted: Sequence[int],
        steps: int,
        split: str,
    ) -> list[EvaluationRow]:
        chosen = {self.tasks[position] for position in wanted}
        means: dict[str, float] = {}
        for family, tasks in self._distinct.items():
            some = [task for task in tasks if task in chosen]
            if some:
                measured = returns(family, some)
                means |= {task.id: float(mean) for task, mean in zip(some, measured, strict=True)}
        return [self._row(stage, split, position, steps, means[self.tasks[position].id]) for position in sorted(wanted)]

    def _row(self, stage: int, split: str, position: int, steps: int, mean_return: float) -> EvaluationRow:
        task = self.tasks[position]
        reference = self.references.get(task.id)
        return EvaluationRow(
            stage=stage,
            split=split,
            position=position,
            task_id=task.id,
            family=task.family,
            steps=steps,
            mean_return=mean_return,
            score=reference.score(mean_return) if reference is not None else None,
        )


def _features(seen: Mapping[str, Rollouts]) -> dict[str, Tensor]:
    """Feature rows [B, k, F] of the first rollout of each task, by family."""
    return {family: torch.from_numpy(rollouts.features()[:, 0]) for family, rollouts in seen.items()}
