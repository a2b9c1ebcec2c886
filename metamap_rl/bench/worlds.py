"""Worlds of a benchmark: what a learner from elsewhere acts in, a task of a family or a Gymnasium environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import FlattenObservation, TimeLimit
from numpy.typing import NDArray

from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.user_modules import make_by_id
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_envs.user_env import failure

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

__all__ = ["CountedEnv", "FamilyWorld", "GymWorld", "World", "random_actions"]


class World(Protocol):
    """A place to act in; equal worlds are the same task."""

    @property
    def label(self) -> str:
        """What messages call it."""
        ...

    @property
    def horizon(self) -> int:
        """Most steps of an episode."""
        ...

    def make(self) -> gym.Env[Any, Any]:
        """A new environment, with a time limit."""
        ...

    def copies(self, count: int, seed: int) -> VecEnv:
        """Several environments for Stable-Baselines3."""
        ...


@dataclass(frozen=True)
class FamilyWorld:
    """A task of a family."""

    task: Task

    @property
    def label(self) -> str:
        """The family's name."""
        return self.task.family

    @property
    def horizon(self) -> int:
        """Of the family."""
        return get_family(self.task.family).horizon

    def make(self) -> gym.Env[Any, Any]:
        """See `World`."""
        return TimeLimit(FamilyEnv(self.task.family, task=self.task), self.horizon)

    def copies(self, count: int, seed: int) -> VecEnv:
        """The fast simulator."""
        from metamap_agents.sb3.vec_env import FamilyVecEnv

        return FamilyVecEnv([self.task] * count, seed, num_threads=1, dtype=np.float32)


@dataclass(frozen=True)
class GymWorld:
    """A Gymnasium environment. Observations that are no flat box are flattened by Gymnasium's `FlattenObservation`."""

    name: str
    """Name in the report."""
    id: str
    arguments: str
    """JSON of the constructor's arguments and ``max_episode_steps``."""

    @classmethod
    def of(cls, name: str, env_id: str, arguments: Mapping[str, Any]) -> GymWorld:
        """A world of plain arguments."""
        return cls(name, env_id, json.dumps(dict(arguments), sort_keys=True))

    def make(self) -> gym.Env[Any, Any]:
        """See `World`.

        Raises:
            MetaMapError: it cannot be made.
        """
        env = make_by_id(self.id, json.loads(self.arguments), self.label)
        space = env.observation_space
        if isinstance(space, Box) and len(space.shape) == 1:
            return env
        try:
            return FlattenObservation(env)
        except Exception as error:
            raise MetaMapError(f"{self.label}: its observations cannot be flattened: {failure(error)}") from error

    @cached_property
    def horizon(self) -> int:
        """Of its `TimeLimit`, which it must have."""
        return self._facts[0]

    @property
    def spaces(self) -> tuple[Box, Box | Discrete]:
        """Flat observations and actions."""
        return self._facts[1]

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"environment {self.name!r}"

    def copies(self, count: int, seed: int) -> VecEnv:
        """In this process, one after another."""
        from stable_baselines3.common.vec_env import DummyVecEnv

        envs = DummyVecEnv([self.make for _ in range(count)])
        envs.seed(seed)
        return envs

    @cached_property
    def _facts(self) -> tuple[int, tuple[Box, Box | Discrete]]:
        env = self.make()
        try:
            actions, observations = env.action_space, env.observation_space
            if not (isinstance(actions, Discrete) or (isinstance(actions, Box) and len(actions.shape) == 1)):
                raise MetaMapError(f"{self.label}: expected actions that are a Discrete or a flat Box, got {actions}")
            if isinstance(actions, Discrete) and actions.start != 0:
                raise MetaMapError(f"{self.label}: expected actions from 0 on, got {actions}")
            if isinstance(actions, Box) and not actions.is_bounded():
                raise MetaMapError(f"{self.label}: expected bounded actions, got {actions}")
            assert isinstance(observations, Box), "flattened"
            limit = env.get_wrapper_attr("_max_episode_steps") if env.has_wrapper_attr("_max_episode_steps") else None
            if limit is None:
                raise MetaMapError(f"{self.label}: its episodes have no time limit: give max_episode_steps")
            return int(limit), (observations, actions)
        finally:
            env.close()

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn what the environment raises into one sentence."""
        try:
            yield
        except (MetaMapError, Warning):
            raise
        except (Exception, SystemExit) as error:
            raise MetaMapError(f"{self.label}: {failure(error)}") from error


class CountedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment of a world that counts the steps taken in it."""

    def __init__(self, world: World) -> None:
        super().__init__(world.make())
        self.world, self.steps = world, 0

    def step(self, action: Any) -> Any:
        """Step and count."""
        self.steps += 1
        return super().step(action)


def random_actions(space: Box | Discrete, count: int, generator: np.random.Generator) -> NDArray[Any]:
    """Uniform random actions [count, A], or [count] of a Discrete."""
    if isinstance(space, Discrete):
        return generator.integers(space.n, size=count)
    return generator.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)
