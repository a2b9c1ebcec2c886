"""Runs of learners from elsewhere on a course: train on each arrival, measure after each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.contract import StreamLearner, describe_error
from metamap_rl.bench.course import Course
from metamap_rl.bench.entry import ExternalSettings, make_external
from metamap_rl.bench.result import CellResult
from metamap_rl.bench.worlds import CountedEnv, World

__all__ = ["check_external", "run_external"]

Scores = list[float | None]
Make = Callable[[], StreamLearner]


def check_external(settings: ExternalSettings, worlds: Iterable[World]) -> None:
    """Construct a learner and, for Stable-Baselines3, its model for each pair of spaces, without training.

    Args:
        settings: of the learner.
        worlds: one of each pair of spaces.

    Raises:
        MetaMapError: the learner cannot be constructed, or would not learn within its steps.
    """
    try:
        learner = make_external(settings, 0)
    except MetaMapError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything, and may end the interpreter
        raise MetaMapError(f"{settings.entry}: cannot be made, {describe_error(error)}") from error
    if settings.sb3 is None:
        return
    check: Callable[[CountedEnv], None] = getattr(learner, "check")  # noqa: B009  # of `SB3Learner`, a slow import
    for world in worlds:
        env = CountedEnv(world)
        check(env)
        env.close()


def run_external(course: Course, settings: ExternalSettings, *, stream: str, learner: str, order: int) -> CellResult:
    """Run a learner from elsewhere on a course.

    Args:
        course: tasks and scores.
        settings: settings of the learner.
        stream: name of the stream.
        learner: name of the learner.
        order: number of the task order.

    Raises:
        MetaMapError: the learner cannot be constructed, or its actions have the wrong shape or are not finite.
    """
    started = time.perf_counter()
    about = course.fields()
    make = partial(make_external, settings, about["config"]["seeds"]["learner"])
    with torch_threads(1):
        run = _Run(course, settings, _Kept(make, settings.carry))
        seen = run.go()
        by_length = run.lengths()
        alone = _alone(course, settings, make, seen)
    count, points = len(course.stream), settings.points
    return CellResult(
        stream=stream,
        learner=learner,
        order=order,
        **{**about, "config": {**about["config"], "learner": settings.model_dump(mode="json")}},
        versions=library_versions(),
        machine=describe_machine(torch_threads=1),
        R=seen.R,
        H=seen.H,
        map_steps=course.map_steps,
        lengths=list(course.lengths),
        by_length=by_length,
        curve_x=[settings.steps * point / points for point in range(points + 1)],
        curve_unit="environment steps",
        curves=seen.curves,
        baselines=alone,
        gap_closed=run.gaps(),
        memory_bytes=seen.memory,
        environment_steps=seen.steps,
        decisions={"trained": count},
        update_seconds=seen.seconds,
        map_seconds=[float(np.median(run.latencies))] * count,
        seconds=time.perf_counter() - started,
    )


class _Kept:
    """The learners of a run, by what is carried from task to task."""

    def __init__(self, make: Make, carry: str | None) -> None:
        self._make, self._carry = make, carry
        self._current = make()
        self._by_world: dict[World, StreamLearner] = {}

    def arrive(self, world: World) -> StreamLearner:
        """The learner that is to learn a task that has arrived."""
        if self._carry == "per-task":
            if world not in self._by_world:
                self._by_world[world] = self._make()
            return self._by_world[world]
        if self._carry == "nothing":
            self._current = self._make()
        return self._current

    def of(self, world: World) -> StreamLearner:
        """The learner that acts in a world; with ``per-task`` an untrained one where it was not learnt yet."""
        return self._by_world.get(world, self._current)

    def bytes(self) -> int:
        """Size of all that is kept."""
        return sum(_size(learner) for learner in (self._by_world.values() or [self._current]))


@dataclass
class _Seen:
    """Measurements by stage."""

    R: list[Scores] = field(default_factory=list)
    H: list[Scores] = field(default_factory=list)
    curves: list[Scores] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class _Run:
    """A learner on a course."""

    def __init__(self, course: Course, settings: ExternalSettings, kept: _Kept) -> None:
        self._course, self._settings, self._kept = course, settings, kept
        self.latencies: list[float] = []
        """Seconds from D to a policy."""
        self._last: dict[World, float] = {}
        """Mean returns of the last measurement."""

    def go(self) -> _Seen:
        """Train on each task in turn, and measure all after each."""
        seen, course = _Seen(), self._course
        seen.R.append(self._scores(course.stream))
        seen.H.append(self._scores(course.held_out))
        for stage, world in enumerate(course.stream, start=1):
            curve, steps, seconds = self.learn(world, stage)
            seen.R.append(self._scores(course.stream))
            seen.H.append(self._scores(course.held_out))
            seen.curves.append(curve)
            seen.steps.append(steps)
            seen.seconds.append(seconds)
            seen.memory.append(self._kept.bytes())
        return seen

    def learn(self, world: World, stage: int) -> tuple[Scores, int, float]:
        """Train on one task; returns its learning curve, environment steps and seconds.

        For a user's learner the budget is returned as environment steps, since it may step other environments than the
        counted one.
        """
        settings, learner = self._settings, self._kept.arrive(world)
        env, seconds, points = CountedEnv(world), 0.0, settings.points
        curve = self._scores([world])
        for point in range(1, points + 1):
            budget = settings.steps * point // points
            started = time.perf_counter()
            learner.learn(env, budget - settings.steps * (point - 1) // points)
            seconds += time.perf_counter() - started
            if env.steps > budget:
                raise MetaMapError(f"stage {stage}: the learner took {env.steps} environment steps of {budget}")
            curve += self._scores([world])
        env.close()
        return curve, env.steps if settings.sb3 is not None else settings.steps, seconds

    def lengths(self) -> list[Scores]:
        """Scores [K][N] on the held-out tasks at each of the other lengths of D."""
        if not self._course.held_out:
            return []
        before = dict(self._last)
        found = [self._scores(self._course.held_out, steps) for steps in self._course.lengths]
        self._last = before
        return found

    def gaps(self) -> dict[str, list[float]]:
        """Gap closed at the last measurement by split, on tasks that have one."""
        found: dict[str, list[float]] = {}
        for split, worlds in (("stream", self._course.stream), ("held-out", self._course.held_out)):
            gaps = [self._course.gap_closed(world, self._last[world]) for world in worlds]
            found[split] = [gap for gap in gaps if gap is not None]
        return found

    def _scores(self, worlds: Sequence[World], steps: int | None = None) -> Scores:
        """Scores on some worlds; one that comes several times is measured once."""
        for world in dict.fromkeys(worlds):
            self._last[world] = self._return(world, self._course.map_steps if steps is None else steps)
        return [self._course.score(world, self._last[world]) for world in worlds]

    def _return(self, world: World, steps: int) -> float:
        env = CountedEnv(self._course.hidden(world))
        rollout = self._course.transitions(world, steps)
        started = time.perf_counter()
        policy = self._kept.of(world).policy(env, rollout)
        self.latencies.append(time.perf_counter() - started)
        try:
            return self._course.mean_return(world, policy, env.action_space)
        finally:
            env.close()


def _alone(course: Course, settings: ExternalSettings, make: Make, seen: _Seen) -> list[Scores]:
    """Learning curves of new learners on single tasks, at the first arrival of each; empty if not asked for."""
    if not settings.alone:
        return []
    curves: dict[World, Scores] = {}
    for stage, world in enumerate(course.stream, start=1):
        if world in curves:
            continue
        if settings.carry in ("nothing", "per-task"):  # this is what they are
            curves[world] = seen.curves[stage - 1]
        else:
            curves[world] = _Run(course, settings, _Kept(make, settings.carry)).learn(world, stage)[0]
    return [curves[world] for world in course.stream]


def _size(learner: StreamLearner) -> int:
    """Size of a learner's saved state in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
