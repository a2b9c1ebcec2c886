"""The scoreboard of a stream: how well the policies that a mapper generates do, on fixed tasks with fixed rollouts.

The mapper and its learner never see any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.base_policy import BasePolicy
from metamap_agents.evaluation import EVALUATION_SEED, evaluate_policies, random_returns
from metamap_envs.family import get_family
from metamap_envs.task import Task
from metamap_rl.evaluate import SMALLEST_MARGIN
from metamap_rl.probe import Probe, collect
from metamap_rl.stream.experts import ExpertCache
from metamap_rl.stream.record import EvaluationRow

__all__ = ["Generate", "Reference", "Scoreboard", "embodiment_of"]

Generate = Callable[[str, Tensor], NDArray[np.float32]]
"""(embodiment, feature rows [B, k, F]) to weights [B, P]."""

_PROBE_SEED = 5_000_000  # far from the seeds of training and of other evaluations
_SEED_STRIDE = 10_000  # evaluation seeds reset their episodes apart


def embodiment_of(task: Task) -> str:
    """The robot of a task."""
    return get_family(task.family).embodiment


@dataclass(frozen=True)
class Reference:
    """Mean returns that a score is measured against, on the scoreboard's own episodes."""

    random: float
    """Of uniform random actions: score 0."""
    base: float
    """Of phi_0."""
    expert: float
    """Of phi*: score 1."""

    def score(self, mean_return: float) -> float | None:
        """``(J - J_random) / (J_expert - J_random)``; None where the expert is no better than random actions."""
        reach = self.expert - self.random
        return (mean_return - self.random) / reach if reach > 0 else None

    def gap_closed(self, mean_return: float) -> float | None:
        """``(J - J_base) / (J_expert - J_base)``; None where the expert's lead is too small, as in `evaluate`."""
        lead, reach = self.expert - self.base, self.expert - self.random
        counted = reach > 0 and lead >= SMALLEST_MARGIN * reach
        return (mean_return - self.base) / lead if counted else None


@dataclass(frozen=True)
class Scoreboard:
    """T tasks with one rollout D each."""

    tasks: tuple[Task, ...]
    split: Literal["stream", "held-out"]
    cache: ExpertCache
    probe: Probe
    steps: int
    """k, transitions of D that phi_hat is made from."""
    episodes: int
    seed: int
    num_threads: int = 0
    with_experts: bool = True
    """Whether to measure experts and so to give scores; else returns only."""

    @cached_property
    def _distinct(self) -> dict[str, list[Task]]:
        """Tasks by family, each once though it may come several times."""
        families: dict[str, list[Task]] = {}
        for task in dict.fromkeys(self.tasks):
            families.setdefault(task.family, []).append(task)
        return families

    @cached_property
    def _features(self) -> dict[str, Tensor]:
        """D of each family's tasks [B, k, F], collected once: the probe does not depend on the mapper."""
        return {
            family: self._collect(tasks, self.cache.base(get_family(family).embodiment))
            for family, tasks in self._distinct.items()
        }

    def _collect(self, tasks: Sequence[Task], base: BasePolicy) -> Tensor:
        seed = _PROBE_SEED + _SEED_STRIDE * self.seed
        seen = collect(self.probe, tasks, base, steps=self.steps, seed=seed, num_threads=self.num_threads)
        return torch.from_numpy(seen.features()[:, 0])

    @cached_property
    def references(self) -> dict[str, Reference]:
        """Random, base and expert returns by the tasks' ids; empty without experts."""
        found: dict[str, Reference] = {}
        for family, tasks in self._distinct.items() if self.with_experts else ():
            base = self.cache.base(get_family(family).embodiment)
            experts = np.stack([self.cache.expert(task).phi for task in tasks])
            expert, start = self._returns(tasks, base, experts), self._returns(tasks, base, base.phi)
            for index, task in enumerate(tasks):
                # One task at a time: the random actions of a task must not depend on which others are measured.
                zero = random_returns([task], episodes=self.episodes, seed=self._episode_seed).mean()
                found[task.id] = Reference(float(zero), float(start[index]), float(expert[index]))
        return found

    def with_references(self, references: Mapping[str, Reference]) -> None:
        """Take references that were measured before, in place of measuring them again."""
        self.__dict__["references"] = dict(references)

    @property
    def _episode_seed(self) -> int:
        return EVALUATION_SEED + _SEED_STRIDE * self.seed

    def _returns(self, tasks: Sequence[Task], base: BasePolicy, phis: NDArray[Any]) -> NDArray[np.float64]:
        """Mean returns [B]."""
        episodes = evaluate_policies(
            tasks,
            base.spec,
            phis,
            base.normalizer,
            episodes=self.episodes,
            seed=self._episode_seed,
            num_threads=self.num_threads,
        )
        means: NDArray[np.float64] = episodes.returns.mean(axis=1)
        return means

    def measure(self, generate: Generate, stage: int, positions: Sequence[int] | None = None) -> list[EvaluationRow]:
        """Generate a policy for each task from its D, and run it.

        Args:
            generate: the mapper.
            stage: after which stage this is; 0 before the first.
            positions: which places of ``tasks``; all of them by default.

        Returns:
            One row for each place, in the order of ``tasks``.
        """
        wanted = range(len(self.tasks)) if positions is None else positions
        chosen = {self.tasks[position] for position in wanted}
        means: dict[str, float] = {}
        for family, tasks in self._distinct.items():
            rows = [index for index, task in enumerate(tasks) if task in chosen]
            if rows:
                embodiment = get_family(family).embodiment
                phis = generate(embodiment, self._features[family][rows])
                measured = self._returns([tasks[row] for row in rows], self.cache.base(embodiment), phis)
                means |= {tasks[row].id: float(mean) for row, mean in zip(rows, measured, strict=True)}
        return [self._row(stage, position, means[self.tasks[position].id]) for position in sorted(wanted)]

    def _row(self, stage: int, position: int, mean_return: float) -> EvaluationRow:
        task = self.tasks[position]
        reference = self.references.get(task.id)
        return EvaluationRow(
            stage=stage,
            split=self.split,
            position=position,
            task_id=task.id,
            family=task.family,
            steps=self.steps,
            mean_return=mean_return,
            score=reference.score(mean_return) if reference is not None else None,
        )
