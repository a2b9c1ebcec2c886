"""Experts of a stream: a cache on disk shared by all learners, orders and runs, and experts trained from phi_hat.

Every embodiment has one base policy in a stream, trained on one of its families; experts of all its families are
fine-tuned from it, so that their weights are comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.building import (
    OnExpert,
    build_experts,
    build_universal,
    lacks_universal,
    train_first,
    universal_for,
)
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.filling import check_recipes
from metamap_agents.experts.ppo import OnProgress
from metamap_agents.experts.recipes import Recipe, Stage, load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.executors import Executor
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["ExpertCache", "bases_of"]

_POLL_SECONDS = 0.5


def bases_of(families: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Family on which each embodiment's base policy is trained.

    Args:
        families: all families of a stream, in any order.
        given: choices by embodiment; default the first family by name, independent of the order of the stream.

    Raises:
        MetaMapError: an unknown family, or one of another embodiment.
    """
    bases = {}
    for name in sorted(families, reverse=True):
        bases[get_family(name).embodiment] = name
    for embodiment, name in (given or {}).items():
        if get_family(name).embodiment != embodiment:
            raise MetaMapError(
                f"experts.bases: {embodiment}: expected a family of that embodiment, "
                f"{name!r} is of {get_family(name).embodiment!r}"
            )
        bases[embodiment] = name
    return bases


@dataclass
class ExpertCache:
    """Cache of base policies and experts in zoos, trained on first use.

    ``root/<family>`` is the zoo of a family with its own base policy, ``root/<family>-on-<other>`` of one with another
    family's. Processes may share a cache: each expert is trained once.
    """

    root: Path
    bases: Mapping[str, str]
    """Family of the base policy, by embodiment."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace the expert recipe's."""
    base_overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace the base recipe's."""
    seed: int = 0
    """Seed of the zoos, for base policies and experts."""
    num_threads: int = 0
    """Threads of the simulator for training base policies; 0 uses all cores."""

    def __post_init__(self) -> None:
        self.seed = read_seed(self.seed, "the seed of an expert cache")

    _opened: dict[Path, Zoo] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Zoos by folder name, so that base policies are read from disk once."""
    _checked: set[str] = field(init=False, repr=False, compare=False, default_factory=set)
    """Families whose zoos were checked for these settings."""

    def prepare(self, tasks: Sequence[Task], executor: Executor, *, on_expert: OnExpert | None = None) -> None:
        """Train missing base policies, then missing experts of ``tasks`` in parallel.

        Raises:
            MetaMapError: a zoo in the cache was made with other settings, or training failed.
        """
        for family in dict.fromkeys(task.family for task in tasks):
            own = [task for task in dict.fromkeys(tasks) if task.family == family]
            build_experts(self.zoo(family), own, overrides=self.overrides, executor=executor, on_expert=on_expert)

    def missing(self, tasks: Sequence[Task]) -> tuple[list[str], list[Task]]:
        """Embodiments without a base policy, and tasks without an expert; nothing is trained or written."""
        distinct = list(dict.fromkeys(tasks))
        bases = dict.fromkeys(get_family(task.family).embodiment for task in distinct)
        without = [embodiment for embodiment in bases if not self._has_base(embodiment)]
        return without, [task for task in distinct if not self._has_expert(task)]

    def _has_base(self, embodiment: str) -> bool:
        place = self.root / self.bases[embodiment]
        return place.is_dir() and Zoo.open(place).has_base

    def _has_expert(self, task: Task) -> bool:
        place = self._place(task.family, self.bases[get_family(task.family).embodiment])
        return place.is_dir() and Zoo.open(place).has(task)

    def base(self, embodiment: str, on_progress: OnProgress | None = None) -> BasePolicy:
        """The base policy of an embodiment; trained if missing, as in a zoo of its family (see `train_first`)."""
        owner = self.bases[embodiment]
        zoo = self._open(owner, owner)

        def train(stage: Stage, build: Callable[..., None]) -> None:
            build(zoo, overrides=self.base_overrides, num_threads=self.num_threads, on_progress=on_progress)

        train_first(zoo, self.recipe(owner), train)
        return zoo.base

    def expert(self, task: Task, on_progress: OnProgress | None = None) -> Expert:
        """The expert of a task, fine-tuned from phi_0; trained if missing, or awaited from another process."""
        zoo = self.zoo(task.family)
        while not zoo.has(task):
            with zoo.claim(task.id) as ours:
                if ours and not zoo.has(task):
                    seed = zoo.expert_seed(task)
                    recipe = self.recipe(task.family)
                    start = universal_for(zoo, recipe)
                    zoo.put(train_expert(task, zoo.base, recipe, seed=seed, start=start, on_progress=on_progress))
            if not ours:
                time.sleep(_POLL_SECONDS)
        return zoo.get(task)

    def recipe(self, family: str, budget: float = 1.0) -> Recipe:
        """The expert recipe of a family with a fraction of its environment steps, at least one rollout of PPO."""
        recipe = load_recipe(family, "expert", **self.overrides)
        if budget == 1.0:
            return recipe
        steps = max(recipe.n_envs * recipe.n_steps, round(budget * recipe.n_timesteps))
        return load_recipe(family, "expert", **{**self.overrides, "n_timesteps": steps})

    def expert_from(
        self,
        task: Task,
        start: NDArray[np.float32],
        budget: float,
        seed: int,
        on_progress: OnProgress | None = None,
    ) -> Expert:
        """Train an expert from ``start`` [P] with a budget; it is not cached.

        Raises:
            MetaMapError: training diverged.
        """
        seed = read_seed(seed)
        base = self.base(get_family(task.family).embodiment)
        return train_expert(
            task, base, self.recipe(task.family, budget), seed=seed, start=start, on_progress=on_progress
        )

    def zoo(self, family: str) -> Zoo:
        """The zoo of a family, with its embodiment's base policy."""
        embodiment = get_family(family).embodiment
        owner = self.bases[embodiment]
        zoo = self._open(family, owner)
        if family not in self._checked:
            base = self.base(embodiment)
            if not zoo.has_base:
                zoo.put_base(base)
            check_recipes(
                zoo,
                base=load_recipe(owner, "base", **self.base_overrides),
                universal=load_recipe(family, "parent", **self.base_overrides),
                expert=load_recipe(family, "expert", **self.overrides),
            )
            if lacks_universal(zoo, self.recipe(family)):
                build_universal(zoo, overrides=self.base_overrides, num_threads=self.num_threads)
            self._checked.add(family)
        return zoo

    def _open(self, family: str, owner: str) -> Zoo:
        """The zoo of a family with the base policy of ``owner``."""
        place = self._place(family, owner)
        if place not in self._opened:
            self._opened[place] = Zoo.create(place, family, self.seed)
        return self._opened[place]

    def _place(self, family: str, owner: str) -> Path:
        return self.root / (family if family == owner else f"{family}-on-{owner}")
