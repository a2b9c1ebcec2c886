"""Adaptation in service: the task is replaced in mid-run, the state is kept; adapters beside fixed windows and bounds.

Choices are made on validation tasks, so that is the default split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, Whole
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.adaptation.service.trial import AdapterController, Controller, PolicyController, run_trial
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import service_table

_BASE, _ORACLE = "base policy", "oracle, at once"
_BINS = (0, 5, 10, 20, 50, 100, 200)  # steps after a change
_NEVER = 1e9  # nats: no change is found


def _adapters(**settings: Any) -> Callable[[Mapper, int], Controller]:
    known, hold = settings.pop("known_changes", False), settings.pop("hold", False)
    config = AdapterConfig(**settings)
    return lambda mapper, count: AdapterController(VectorAdapter(mapper, count, config), known_changes=known, hold=hold)


def _oracle(delay: int) -> Callable[[Mapper, int], Controller]:
    def made(mapper: Mapper, count: int) -> Controller:
        if mapper.universal is None:
            raise MetaMapError("service: expected a mapper with the universal policy, which the oracle is made of")
        return PolicyController(mapper.base, count, mapper.universal.expert_for, delay)

    return made


METHODS: dict[str, Callable[[Mapper, int], Controller]] = {
    _BASE: lambda mapper, count: PolicyController(mapper.base, count),
    _ORACLE: _oracle(0),
    **{f"oracle, {delay} steps late": _oracle(delay) for delay in (5, 10, 20)},
    "adapter": _adapters(),
    "adapter, from one transition": _adapters(least_transitions=1),
    "adapter, unchecked": _adapters(check=False, least_transitions=1),
    "window from the known change": _adapters(known_changes=True, margin=_NEVER, longest_window=100),
    "window from the known change, unchecked": _adapters(
        check=False, least_transitions=1, known_changes=True, margin=_NEVER, longest_window=100
    ),
    **{f"sliding window, {length}": _adapters(check=False, fixed_window=length) for length in (10, 20, 50, 100)},
    "mapped once": _adapters(check=False, least_transitions=1, margin=_NEVER, hold=True),
}
"""Makers of controllers, from a mapper and the number of environments, by name."""


@EXPERIMENTS.register("service")
class Service(Settings):
    """Adaptation in service: the task is replaced in mid-run, the state is kept; adapters beside windows and bounds."""

    mapper: str
    """Folder, or name of a bundled one; with the universal policy."""
    methods: Annotated[tuple[str, ...], Field(min_length=2)] = tuple(METHODS)
    """Names of `METHODS`; the first two are needed for shares."""
    split: str = "validation"
    """Of the tasks."""
    runs: Annotated[Whole, Field(ge=2)] = 12
    """Sequences of tasks, each with a first state of its own."""
    tasks: Annotated[Whole, Field(ge=2)] = 4
    """Tasks of a sequence."""
    every: Annotated[Whole, Field(ge=1)] = 200
    """Steps with each task."""
    seed: Annotated[Whole, Field(ge=0)] = 0
    """Of the tasks and the first states."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each method.

        Raises:
            MetaMapError: an unknown method, or not a mapper.
        """
        from metamap_envs.errors import unknown_name

        for name in self.methods:
            if name not in METHODS:
                raise unknown_name("method in service", name, METHODS)
        mapper, _ = find_mapper(self.mapper)
        shared = self.model_dump(mode="json", exclude={"methods", "mapper"}) | {"mapper": mapper_id(mapper)}
        yield [
            Cell(_file(name), out / f"{_file(name)}.json", {**shared, "method": name}, (name,)) for name in self.methods
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def _sequences(self, mapper: Mapper) -> list[list[Task]]:
        """Task of each step and run, [n][runs]."""
        generator = np.random.default_rng(self.seed)
        drawn = get_family(mapper.family).sample(self.split, self.runs * self.tasks, generator)
        return [
            [drawn[run * self.tasks + step // self.every] for run in range(self.runs)]
            for step in range(self.tasks * self.every)
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run one method on all sequences."""
        mapper, _ = find_mapper(self.mapper)
        controller = METHODS[cell.job[0]](mapper, self.runs)
        seeds = range(1000 * self.seed, 1000 * self.seed + self.runs)
        trial = run_trial(controller, self._sequences(mapper), seeds=seeds)
        after = trial.rewards.reshape(self.tasks, self.every, self.runs)
        changed = after[1:].mean(axis=(0, 2))
        found = {
            "family": mapper.family,
            "returns": trial.rewards.sum(axis=0).tolist(),
            "returns_of_tasks": after.sum(axis=1).T.tolist(),
            "reward_after_change": changed.tolist(),
        }
        if trial.beliefs[-1]:
            found["changes_found"] = [belief.changes for belief in trial.beliefs[-1]]
            generated = [[one.served == "generated" for one in row] for row in trial.beliefs]
            found["generated"] = float(np.mean(generated))
        return document_of(cell, found)

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Shares of the return between base policy and oracle, ratios of sums over runs."""
        by_method = {document["settings"]["method"]: document for document in documents.values()}
        return {
            "settings": self.model_dump(mode="json"),
            "methods": {name: _summary(name, by_method) for name in self.methods if name in by_method},
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """One row for each method."""
        return service_table(document)


def _file(method: str) -> str:
    return method.replace(",", "").replace(" ", "-")


def _summary(name: str, documents: Mapping[str, Any]) -> dict[str, Any]:
    own = documents[name]
    found = {
        "return": float(np.mean(own["returns"])),
        "reward_by_steps_after_change": _binned(np.array(own["reward_after_change"])),
        **{key: own[key] for key in ("generated",) if key in own},
    }
    if "changes_found" in own:
        found["changes_found"] = float(np.mean(own["changes_found"]))
    if _BASE in documents and _ORACLE in documents:
        returns, base, oracle = (np.array(documents[one]["returns"]) for one in (name, _BASE, _ORACLE))
        found |= dict(zip(("share", "low", "high"), shares(returns, base, oracle), strict=True))
    return found


def shares(
    returns: NDArray[np.float64], base: NDArray[np.float64], oracle: NDArray[np.float64], resamples: int = 5000
) -> tuple[float, float, float]:
    """Share of the return between base policy and oracle, ratio of sums over runs, with its 95 % bootstrap interval.

    Args:
        returns: of a method [runs].
        base: of the base policy on the same runs.
        oracle: of the oracle.
        resamples: bootstrap resamples of the runs.
    """
    draws = np.random.default_rng(0).integers(len(returns), size=(resamples, len(returns)))
    gain, gap = returns - base, oracle - base
    ratios = gain[draws].sum(axis=1) / gap[draws].sum(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(gain.sum() / gap.sum()), float(low), float(high)


def _binned(rewards: NDArray[np.float64]) -> dict[str, float]:
    """Mean reward by steps after a change."""
    return {f"{low}-{high}": float(rewards[low:high].mean()) for low, high in pairwise(_BINS) if low < len(rewards)}
