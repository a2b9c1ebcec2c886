"""Streams of Gymnasium environments as courses, and the returns that their scores refer to."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.seeds import EVALUATION_SEED, STREAM_PROBES
from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.contract import Policy
from metamap_rl.bench.course import checked_actions
from metamap_rl.bench.entry import make_external
from metamap_rl.bench.environments import EnvironmentStreamConfig
from metamap_rl.bench.worlds import CountedEnv, GymWorld, World, random_actions
from metamap_rl.common.cells import Cell, OnCell, check_settings, document_of, run_cells

__all__ = ["EnvironmentCourse", "GymTransitions", "ReferenceWork", "prepare_references"]

_FOLDER = "environments"
_SEED_STRIDE = 10_000  # between the reset seeds of evaluation seeds, as of scoreboards

Act = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class GymTransitions:
    """See `metamap_rl.bench.contract.Transitions`."""

    observations: NDArray[np.float32]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.rewards)


@dataclass(frozen=True)
class EnvironmentCourse:
    """A stream of Gymnasium environments; see `metamap_rl.bench.course.Course`."""

    config: EnvironmentStreamConfig
    references: Mapping[GymWorld, tuple[float, float]]
    """Returns with score 0 and 1."""

    @classmethod
    def of(cls, config: EnvironmentStreamConfig, zoo: Path) -> EnvironmentCourse:
        """With the references that `prepare_references` left in ``zoo``."""
        work, found = ReferenceWork(config), {}
        for cell, choice in zip(work.cells(zoo), config.stream.choices().values(), strict=True):
            measured = read_json(cell.path) if cell.path.is_file() else {}
            zero = choice.random if choice.random is not None else measured["random"]
            one = choice.single_task if choice.single_task is not None else measured["single_task"]
            found[choice.world()] = (float(zero), float(one))
        return cls(config, found)

    @cached_property
    def stream(self) -> list[World]:
        """Environments in order of arrival."""
        return [choice.world() for choice in self.config.stream.arriving]

    @cached_property
    def held_out(self) -> list[World]:
        """Environments that are measured only."""
        return [choice.world() for choice in self.config.stream.held_out]

    @property
    def lengths(self) -> Sequence[int]:
        """None: D is of one length."""
        return ()

    @property
    def map_steps(self) -> int:
        """Transitions of D."""
        return self.config.stream.map_steps

    def hidden(self, world: World) -> World:
        """The first environment with these spaces."""
        spaces = _gym(world).spaces
        return next(one for one in self.references if one.spaces == spaces)

    def transitions(self, world: World, steps: int) -> GymTransitions:
        """D of uniform random actions."""
        found = self._transitions.get(_gym(world))
        if found is None:
            seed = STREAM_PROBES + _SEED_STRIDE * self.config.seeds.evaluation
            found = self._transitions[_gym(world)] = _explore(_gym(world), steps, seed)
        return found

    def mean_return(self, world: World, policy: Policy, actions: gym.Space[Any]) -> float:
        """Over episodes in lockstep, in copies of the environment that are kept for the next measurement."""
        own = _gym(world)
        if own not in self._copies:
            self._copies[own] = [own.make() for _ in range(self.config.stream.episodes)]

        def act(seen: NDArray[np.float32]) -> NDArray[Any]:
            found, _ = policy.predict(seen)
            return checked_actions(found, len(seen), actions)

        return float(_episodes(own, self._copies[own], act, _first_seed(self.config)).mean())

    def score(self, world: World, mean_return: float) -> float | None:
        """``(J - J_random) / (J_single_task - J_random)``."""
        zero, one = self.references[_gym(world)]
        return (mean_return - zero) / (one - zero)

    def gap_closed(self, world: World, mean_return: float) -> float | None:
        """None: there is no base policy."""
        return None

    def fields(self) -> dict[str, Any]:
        """See `metamap_rl.bench.course.Course`."""
        stream, found = self.config.stream, self.references.items()
        return {
            "config": {
                **self.config.resolved(),
                "references": {world.name: {"random": low, "single_task": high} for world, (low, high) in found},
            },
            "seed": self.config.seeds.stream,
            "environments": {choice.id: choice.id for choice in stream.choices().values()},
            "tasks": [choice.label for choice in stream.arriving],
            "families": [choice.id for choice in stream.arriving],
            "held_out": [choice.id for choice in stream.held_out],
        }

    @cached_property
    def _copies(self) -> dict[GymWorld, list[gym.Env[Any, Any]]]:
        return {}

    @cached_property
    def _transitions(self) -> dict[GymWorld, GymTransitions]:
        return {}


@dataclass(frozen=True)
class ReferenceWork:
    """Returns of random actions and of a learner trained on each environment alone, a cell each."""

    config: EnvironmentStreamConfig

    def batches(self, out: Path) -> Iterable[Sequence[Cell]]:
        """The environments whose references are not stated."""
        wanted = [None in (choice.random, choice.single_task) for choice in self.config.stream.choices().values()]
        return [[cell for cell, needed in zip(self.cells(out), wanted, strict=True) if needed]]

    def cells(self, out: Path) -> list[Cell]:
        """One for each environment, in order."""
        return [self._cell(choice.world(), choice.random, choice.single_task, out) for choice in self._choices()]

    def is_done(self, cell: Cell) -> bool:
        """See `check_settings`."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure random actions; train and measure the reference.

        Raises:
            MetaMapError: the reference ends no better than random actions, so that scores would mean nothing.
        """
        world, zero, one = cell.job
        started, episodes = time.perf_counter(), self.config.stream.episodes
        if zero is None:
            copies = [world.make() for _ in range(episodes)]
            generator, (_, actions) = np.random.default_rng(_first_seed(self.config)), world.spaces
            zero = float(
                _episodes(
                    world,
                    copies,
                    lambda seen: random_actions(actions, len(seen), generator),
                    _first_seed(self.config),
                ).mean()
            )
        if one is None:
            one = self._single_task(world)
        if not one > zero:
            raise MetaMapError(
                f"{world.label}: the reference ends at a return of {one:.4g}, random actions have {zero:.4g}: give "
                "`reference` more steps or other settings, or state single_task"
            )
        found = {"random": zero, "single_task": one, "seconds": time.perf_counter() - started}
        return document_of(cell, found)

    def _single_task(self, world: GymWorld) -> float:
        settings = self.config.stream.reference_settings()
        learner = make_external(settings, self.config.seeds.evaluation)
        env = CountedEnv(world)
        course = EnvironmentCourse(self.config, {world: (0.0, 1.0)})
        with world.blamed():
            learner.learn(env, settings.steps)
        policy = learner.policy(env, course.transitions(world, 1))
        env.close()
        return course.mean_return(world, policy, env.action_space)

    def _choices(self) -> list[Any]:
        return list(self.config.stream.choices().values())

    def _cell(self, world: GymWorld, zero: float | None, one: float | None, out: Path) -> Cell:
        stream = self.config.stream
        settings = {
            "id": world.id,
            "arguments": world.arguments,
            "episodes": stream.episodes,
            "evaluation_seed": self.config.seeds.evaluation,
            "stated": [zero, one],
            "reference": stream.reference_settings().model_dump(mode="json", include={"sb3", "steps", "settings"}),
        }
        digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", world.name).strip("-")[:60]
        path = out / _FOLDER / f"{readable}-{digest}.json"
        return Cell(world.name, path, settings, (world, zero, one))


def prepare_references(
    config: EnvironmentStreamConfig, zoo: Path, executor: Executor, on_cell: OnCell = lambda name, done, total: None
) -> None:
    """Measure the references of a stream that are not in ``zoo`` yet.

    Raises:
        MetaMapError: an environment or the reference fails.
    """
    config.stream.check_spaces()
    run_cells(ReferenceWork(config), zoo, executor, on_cell)


def _first_seed(config: EnvironmentStreamConfig) -> int:
    return EVALUATION_SEED + _SEED_STRIDE * config.seeds.evaluation


def _gym(world: World) -> GymWorld:
    assert isinstance(world, GymWorld), "a course of environments"
    return world


def _episodes(world: GymWorld, envs: Sequence[gym.Env[Any, Any]], act: Act, seed: int) -> NDArray[np.float64]:
    """Returns [E] of an episode in each of E copies, in lockstep; copy e is reset with ``seed + e``."""
    returns, running = np.zeros(len(envs)), np.arange(len(envs))
    with world.blamed():
        seen = np.stack([env.reset(seed=seed + index)[0] for index, env in enumerate(envs)]).astype(np.float32)
    while running.size:
        actions = act(seen[running])
        ended = np.zeros(len(running), dtype=np.bool_)
        with world.blamed():
            for place, (index, action) in enumerate(zip(running, _legal(actions, envs[0].action_space), strict=True)):
                seen[index], reward, terminated, truncated, _ = envs[int(index)].step(action)
                returns[index] += float(reward)
                ended[place] = terminated or truncated
        running = running[~ended]
    if not np.isfinite(returns).all():
        raise MetaMapError(f"{world.label}: its rewards are not finite")
    return returns


def _legal(actions: NDArray[Any], space: gym.Space[Any]) -> NDArray[Any]:
    """Actions clipped to their bounds, of the space's type."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    return actions if low is None else np.clip(actions, low, high).astype(space.dtype)


def _explore(world: GymWorld, steps: int, seed: int) -> GymTransitions:
    """Transitions with uniform random actions."""
    observations, actions = world.spaces
    chosen = random_actions(actions, steps, np.random.default_rng(seed))
    before, after = (np.zeros((steps, *observations.shape), np.float32) for _ in range(2))
    rewards, terminated, truncated = np.zeros(steps, np.float32), np.zeros(steps, np.bool_), np.zeros(steps, np.bool_)
    env = world.make()
    with world.blamed():
        seen, _ = env.reset(seed=seed)
        for index, action in enumerate(chosen):
            before[index] = seen
            seen, rewards[index], terminated[index], truncated[index], _ = env.step(action)
            after[index] = seen
            if terminated[index] or truncated[index]:
                seen, _ = env.reset()
    env.close()
    return GymTransitions(before, chosen, rewards, after, terminated, truncated)
