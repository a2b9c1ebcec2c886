"""Adaptation against learning: PPO on one task, from phi_0, from scratch and from the mapped policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.fine_tuning import tune
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.initial import random_actor
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.evaluation.protocol.config import LearningConfig
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["Lesson", "lessons", "steps_to", "take"]

_GROWTH = 1.15  # ratio of environment steps between evaluations, once they are further apart than rollouts
_OURS: dict[str, Any] = {"algorithm": "ppo", "start": "base", "gain_search": None, "plateau": None}


@dataclass(frozen=True)
class Lesson:
    """One training of PPO: index of its task among the test-in tasks, initial policy, settings by name."""

    task: int
    start: str
    setting: str

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.start}+{self.setting}+task={self.task}"


def lessons(config: LearningConfig, counted: Sequence[int]) -> list[Lesson]:
    """All trainings, on the first of the ``counted`` tasks; from scratch only with the first settings."""
    first = next(iter(config.settings))
    return [
        Lesson(task, start, setting)
        for task in counted[: config.tasks]
        for start in config.starts
        for setting in config.settings
        if start != "scratch" or setting == first
    ]


def take(lesson: Lesson, config: LearningConfig, problem: Problem, seed: int) -> dict[str, Any]:
    """Train, with evaluations in between.

    Returns:
        JSON values: the task's id, the environment steps before PPO, and ``points``, pairs (environment steps of PPO,
            mean return of the deterministic policy).
    """
    seed = read_seed(seed)
    task = problem.tasks("test-in")[lesson.task]
    start, recipe = _start(lesson, config, problem, seed), _recipe(lesson, config, problem)
    points: list[tuple[int, float]] = []
    due = 0.0

    def measure(steps: int, phi: NDArray[np.float32]) -> None:
        points.append((steps, _mean_return(task, start, phi, problem)))

    def watch(steps: int, phi: NDArray[np.float32]) -> bool:
        nonlocal due
        if steps >= due:
            measure(steps, phi)
            due = steps * _GROWTH
        return True

    tuned = tune(task, start, recipe, seed=(problem.zoo.expert_seed(task) + seed) % 2**31, on_policy=watch)
    measure(tuned.environment_steps, tuned.phi)
    return {
        "task": task.id,
        "before": config.length if lesson.start == "phi-hat" else 0,
        "points": points,
        "recipe": recipe.model_dump(mode="json"),
    }


def _mean_return(task: Task, base: BasePolicy, phi: NDArray[np.float32], problem: Problem) -> float:
    found = evaluate_policies(
        [task],
        base.policies(phi),
        episodes=problem.config.episodes,
        seed=EVALUATION_SEED,
        num_threads=1,
    )
    return float(found.returns.mean())


def _start(lesson: Lesson, config: LearningConfig, problem: Problem, seed: int) -> BasePolicy:
    """Initial weights; from scratch a new actor and critic, with the family's normaliser."""
    base = problem.base
    if lesson.start == "scratch":
        return replace(base, phi=random_actor(base.spec, seed), critic={})
    if lesson.start == "phi-0":
        return base
    phis = problem.generated("test-in", seed, config.length)
    return replace(base, phi=phis[lesson.task])


def _recipe(lesson: Lesson, config: LearningConfig, problem: Problem) -> Recipe:
    family, changes = problem.zoo.family.name, config.settings[lesson.setting]
    if lesson.start == "scratch":
        return load_recipe(family, "base", **{"n_timesteps": config.steps, **changes})
    return load_recipe(family, "expert", **{**_OURS, "n_timesteps": config.steps, **changes})


def steps_to(document: Mapping[str, Any], level: float) -> int | None:
    """Environment steps of PPO at the first evaluation of at least ``level``; None without one."""
    return next((steps for steps, value in document["points"] if value >= level), None)
