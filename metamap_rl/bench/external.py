"""Runs of external learners on a stream, with the same tasks, probes, episodes and scores as mappers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from metamap_agents.policy.evaluation import run_episodes
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_rl.bench.contract import StreamLearner, describe_error
from metamap_rl.bench.counted import CountedEnv
from metamap_rl.bench.entry import ExternalSettings, make_external
from metamap_rl.bench.result import CellResult
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.record import EvaluationRow
from metamap_rl.stream.scoreboard import Scoreboard

__all__ = ["check_external", "run_external"]

Scores = list[float | None]


@dataclass
class _ExternalRun:
    """An external learner in a stream, and its evaluation."""

    learner: StreamLearner
    stream: Scoreboard
    held_out: Scoreboard | None
    rollouts: dict[Task, Rollout]
    """D of each task, of the longest length."""
    map_steps: int
    seconds: list[float]
    """Latency from D to a policy, of each request."""

    def returns(self, steps: int) -> Any:
        """Mean returns of the learner's policies from D of ``steps`` transitions; see `Scoreboard.measure_returns`."""

        def measured(family: str, tasks: Sequence[Task]) -> NDArray[np.float64]:
            return np.array([self._return(task, steps) for task in tasks])

        return measured

    def _return(self, task: Task, steps: int) -> float:
        env = TimeLimit(FamilyEnv(task.family), get_family(task.family).horizon)  # default parameters, task hidden
        started = time.perf_counter()
        policy = self.learner.policy(env, _head(self.rollouts[task], steps))
        self.seconds.append(time.perf_counter() - started)

        def act(seen: NDArray[np.float64]) -> NDArray[Any]:
            actions, _ = policy.predict(seen[0].astype(np.float32))
            return _checked(actions, seen.shape[1], env)[None]

        board = self.stream
        return float(run_episodes([task], act, board.episodes, board.episode_seed, num_threads=1).returns.mean())

    def own(self, stage: int) -> float | None:
        """Score on the stage's task."""
        return self._rows(self.stream, stage, [stage - 1], self.map_steps)[0].score

    def all(self, stage: int) -> tuple[list[EvaluationRow], list[EvaluationRow]]:
        """Rows of all tasks of the stream, and of the held-out tasks."""
        held_out = self._rows(self.held_out, stage, None, self.map_steps) if self.held_out is not None else []
        return self._rows(self.stream, stage, None, self.map_steps), held_out

    def lengths(self, stage: int) -> list[Scores]:
        """Scores [K][N] on the held-out tasks at each of the other lengths of D."""
        if self.held_out is None:
            return []
        return [[row.score for row in self._rows(self.held_out, stage, None, steps)] for steps in self.held_out.lengths]

    def _rows(self, board: Scoreboard, stage: int, positions: Sequence[int] | None, steps: int) -> list[EvaluationRow]:
        return board.measure_returns(self.returns(steps), stage, positions, steps=steps, split=board.split)


def check_external(settings: ExternalSettings, families: Sequence[str]) -> None:
    """Construct a learner and, for Stable-Baselines3, its model for each embodiment, without training.

    Raises:
        MetaMapError: the learner cannot be constructed, or would not learn within its steps.
    """
    try:
        learner = make_external(settings, 0)
    except MetaMapError:
        raise
    except Exception as error:  # user code may raise anything
        raise MetaMapError(f"{settings.entry}: cannot be made, {describe_error(error)}") from error
    if settings.sb3 is None:
        return
    check: Callable[[CountedEnv], None] = getattr(learner, "check")  # noqa: B009  # of `SB3Learner`, a slow import
    for name in {get_family(name).embodiment: name for name in families}.values():
        env = CountedEnv(get_family(name).task())
        check(env)
        env.close()


def run_external(
    config: StreamConfig, settings: ExternalSettings, zoo: Path, *, stream: str, learner: str, order: int
) -> CellResult:
    """Run an external learner on a stream.

    Args:
        config: config of the stream; settings of mapper, memory and updates are ignored.
        settings: settings of the learner.
        zoo: expert cache, for scores.
        stream: name of the stream.
        learner: name of the learner.
        order: number of the task order.

    Raises:
        MetaMapError: the learner cannot be constructed, or its actions have the wrong shape or are not finite.
    """
    if not config.evaluation.reference:
        raise MetaMapError("evaluation.reference: a benchmark needs scores, so it must be true")
    started = time.perf_counter()
    plan = StreamPlan.of(config, zoo)
    tasks, (own, held_out) = plan.tasks, plan.boards(num_threads=1)
    longest = max(config.map_steps, *config.evaluation.lengths, 1)
    rollouts = own.rollouts(longest) | (held_out.rollouts(longest) if held_out is not None else {})
    seed = config.seeds.learner
    with torch_threads(1):
        way = _ExternalRun(make_external(settings, seed), own, held_out, rollouts, config.map_steps, [])
        seen = _go(way, tasks, settings)
        alone = _alone(way, tasks, settings, seed) if settings.alone else []
        by_length = way.lengths(len(tasks))
    points = settings.points
    return CellResult(
        stream=stream,
        learner=learner,
        order=order,
        seed=config.seeds.stream,
        config={**config.resolved(), "learner": settings.model_dump(mode="json")},
        versions=library_versions(),
        environments=plan.environments,
        machine=describe_machine(torch_threads=1),
        tasks=[task.id for task in tasks],
        families=[task.family for task in tasks],
        held_out=[task.family for task in plan.held_out],
        R=seen.R,
        H=seen.H,
        map_steps=config.map_steps,
        lengths=list(config.evaluation.lengths),
        by_length=by_length,
        curve_x=[settings.steps * point / points for point in range(points + 1)],
        curve_unit="environment steps",
        curves=seen.curves,
        baselines=alone,
        gap_closed=_gaps(seen.last, own, held_out),
        memory_bytes=seen.memory,
        environment_steps=seen.steps,
        decisions={"trained": len(tasks)},
        update_seconds=seen.seconds,
        map_seconds=[float(np.median(way.seconds))] * len(tasks),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Seen:
    R: list[Scores]
    H: list[Scores]
    curves: list[Scores]
    memory: list[int]
    steps: list[int]
    seconds: list[float]
    last: list[EvaluationRow]


def _go(way: _ExternalRun, tasks: Sequence[Task], settings: ExternalSettings) -> _Seen:
    """Train on each task in turn, and evaluate after each."""
    rows, held_out = way.all(0)
    seen = _Seen([_scores(rows)], [_scores(held_out)], [], [], [], [], [])
    for stage, task in enumerate(tasks, start=1):
        curve, steps, seconds = _learn(way, task, stage, settings)
        rows, held_out = way.all(stage)
        seen.R.append(_scores(rows))
        seen.H.append(_scores(held_out))
        seen.curves.append(curve)
        seen.steps.append(steps)
        seen.seconds.append(seconds)
        seen.memory.append(_size(way.learner))
    seen.last.extend(rows + held_out)
    return seen


def _learn(way: _ExternalRun, task: Task, stage: int, settings: ExternalSettings) -> tuple[Scores, int, float]:
    """Train on one task; returns its learning curve, environment steps and seconds.

    For a user's learner the budget is returned as environment steps, since it may step other environments than the
    counted one.
    """
    env, curve, seconds, points = CountedEnv(task), [way.own(stage)], 0.0, settings.points
    for point in range(1, points + 1):
        budget = settings.steps * point // points
        started = time.perf_counter()
        way.learner.learn(env, budget - settings.steps * (point - 1) // points)
        seconds += time.perf_counter() - started
        if env.steps > budget:
            raise MetaMapError(f"stage {stage}: the learner took {env.steps} environment steps of {budget}")
        curve.append(way.own(stage))
    env.close()
    return curve, env.steps if settings.sb3 is not None else settings.steps, seconds


def _alone(way: _ExternalRun, tasks: Sequence[Task], settings: ExternalSettings, seed: int) -> list[Scores]:
    """Learning curves of new learners on single tasks."""
    curves: dict[Task, Scores] = {}
    for stage, task in enumerate(tasks, start=1):
        if task not in curves:
            fresh = _ExternalRun(make_external(settings, seed), way.stream, None, way.rollouts, way.map_steps, [])
            curves[task] = _learn(fresh, task, stage, settings)[0]
    return [curves[task] for task in tasks]


def _gaps(rows: Sequence[EvaluationRow], stream: Scoreboard, held_out: Scoreboard | None) -> dict[str, list[float]]:
    """Gap closed by split, on tasks whose expert beats the base policy."""
    references = stream.references | (held_out.references if held_out is not None else {})
    found: dict[str, list[float]] = {"stream": [], "held-out": []}
    for row in rows:
        gap = references[row.task_id].gap_closed(row.mean_return)
        found[row.split] += [] if gap is None else [gap]
    return found


def _head(rollout: Rollout, steps: int) -> Rollout:
    arrays: dict[str, Any] = {name: array[:steps] for name, array in rollout.arrays().items()}
    return Rollout(rollout.family, **arrays)


def _checked(actions: Any, count: int, env: gym.Env[Any, Any]) -> NDArray[Any]:
    """Validate the learner's actions."""
    array, shape = np.asarray(actions, dtype=np.float64), (count, *(env.action_space.shape or ()))
    if array.shape != shape or not np.isfinite(array).all():
        raise MetaMapError(f"predict: expected finite actions {list(shape)}, got shape {list(array.shape)}")
    return array


def _scores(rows: Sequence[EvaluationRow]) -> Scores:
    return [row.score for row in rows]


def _size(learner: StreamLearner) -> int:
    """Size of a learner's saved state in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
