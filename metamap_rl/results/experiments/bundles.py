"""Mappers measured by what is in their own folders: their universal policy, given the true task, is the expert.

No zoo is needed, so that anyone can measure the bundled mappers again. A rebuilt bundle is compared with the one that
it is to replace in the same way, on validation tasks. The rule, written down before any was rebuilt by it: with the
longest D, the return is not shown to be lower with D of the first origin (the probe), and shown to be higher with D of
every other one (a policy in service), each by the 95 % interval of the paired difference over tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import Seed, Settings, Whole
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import bundled_families, find_mapper
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import DSource
from metamap_rl.probing.mixture import ActorPool
from metamap_rl.results.bundle_tables import bundles_table
from metamap_rl.results.experiments.base import EXPERIMENTS

__all__ = ["Bundles"]

_VALIDATION_SEED = 9_500_000
"""Validation tasks are not those that checkpoints were chosen on."""
_METHODS = ("mapper", "checked-mapper", "estimate")


@EXPERIMENTS.register("bundles")
class Bundles(Settings):
    """Mappers with a universal policy on unseen tasks, with D of the probe and of a policy in service; no zoo."""

    mappers: tuple[str, ...] = ()
    """Folders, or names of bundled ones; none for all bundled ones that hold a universal policy."""
    replaced: dict[str, str] = Field(default_factory=dict)
    """Mappers that others are to replace, by the name of the new one: measured on the same tasks, and with the
    universal policy of the new one for expert and as what is in service."""
    split: Literal["validation", "test-in"] = "test-in"
    """Of the tasks; of test-in those of the zoo that the mapper was trained on."""
    tasks: Annotated[Whole, Field(ge=2)] = 16
    """Of each mapper."""
    d_from: Annotated[tuple[DSource, ...], Field(min_length=1)] = ("probe", "service")
    """Origins of D, as in `metamap mapper evaluate`."""
    lengths: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (5, 20, 50)
    """Transitions of D."""
    episodes: Annotated[Whole, Field(ge=2)] = 10
    """Of each policy on a task."""
    seed: Seed = 0
    """Of validation tasks."""

    @cached_property
    def _names(self) -> tuple[str, ...]:
        if self.mappers:
            return self.mappers
        return tuple(name for name in bundled_families() if find_mapper(name)[0].universal is not None)

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each mapper, by its family, and for each that is to be replaced.

        Raises:
            MetaMapError: no mapper, one without a universal policy, two of one family, or one that replaces a mapper of
                another family.
        """
        shared = self.model_dump(mode="json", exclude={"mappers", "replaced"})
        for new in self.replaced:
            if new not in self._names:
                raise MetaMapError(f"replaced: expected names among the mappers, {list(self._names)}, got {new!r}")
        cells: dict[str, Cell] = {}
        for name in self._names:
            mapper = _with_universal(name)
            if mapper.family in cells:
                raise MetaMapError(f"mappers: expected one of each family, {name} is another one of {mapper.family!r}")
            jobs = {mapper.family: name}
            if name in self.replaced:
                jobs[_before(mapper.family)] = self.replaced[name]
            for label, reference in jobs.items():
                measured = find_mapper(reference)[0]
                if measured.family != mapper.family:
                    raise MetaMapError(f"{reference} is of family {measured.family!r}, {name} of {mapper.family!r}")
                settings = {**shared, "mapper": mapper_id(measured), "experts of": mapper_id(mapper)}
                path = out / f"{label.replace(', ', '-')}.json"
                cells[label] = Cell(label, path, settings, (reference, name))
        yield list(cells.values())

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure one mapper."""
        reference, new = cell.job
        mapper, universal = find_mapper(reference)[0], _with_universal(new).universal
        assert universal is not None
        experts = [_expert(universal, task) for task in self._tasks(_with_universal(new))]
        pool = ActorPool.of_universal(mapper.base, universal)
        found = {
            origin: evaluate_mappers(
                [mapper],
                experts,
                methods=_METHODS,
                pool=pool,
                d_from=origin,
                lengths=self.lengths,
                episodes=self.episodes,
                reference_episodes=self.episodes,
            ).summary()
            for origin in self.d_from
        }
        served = None if mapper.check is None else mapper.check.least_steps
        return document_of(cell, {"family": mapper.family, "served_from": served, "origins": found})

    def _tasks(self, mapper: Mapper) -> list[Task]:
        own = self.split == "test-in"
        seed = int(mapper.base.record.get("seed", 0)) if own else _VALIDATION_SEED + self.seed
        return get_family(mapper.family).sample(self.split, self.tasks, seed)

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Evaluations by mapper and origin of D, and paired differences of returns to what is replaced."""
        mappers = {
            name: {
                "mapper": one["settings"]["mapper"],
                **{key: one[key] for key in ("family", "served_from", "origins")},
            }
            for name, one in documents.items()
        }
        differences = {
            new: self._differences(mappers[new]["origins"], mappers[before]["origins"])
            for new in mappers
            if (before := _before(new)) in mappers
        }
        return {
            "settings": self.model_dump(mode="json", exclude={"mappers", "replaced"}),
            "mappers": mappers,
            "differences": differences,
            "replaces": {new: self._replaces(found) for new, found in differences.items()},
        }

    def _differences(self, new: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """By origin and length: mean difference of returns over tasks, with its 95 % interval."""
        return {
            origin: {str(steps): _difference(new[origin], before[origin], steps) for steps in self.lengths}
            for origin in self.d_from
        }

    def _replaces(self, differences: Mapping[str, Any]) -> bool:
        """The rule."""
        probe, *others = (differences[origin][str(self.lengths[-1])] for origin in self.d_from)
        return probe["high"] >= 0 and all(other["low"] > 0 for other in others)

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Mappers and origins of D in rows, lengths in columns."""
        return bundles_table(document)


def _before(family: str) -> str:
    """Name of the mapper that is to be replaced."""
    return f"{family}, before"


def _with_universal(reference: str) -> Mapper:
    mapper = find_mapper(reference)[0]
    if mapper.universal is None:
        raise MetaMapError(f"{reference}: expected a mapper that holds the universal policy of its family")
    return mapper


def _expert(universal: UniversalPolicy, task: Task) -> Expert:
    return Expert(task, universal.expert_for(task), np.zeros(0), np.zeros(0))


def _difference(new: Mapping[str, Any], before: Mapping[str, Any], steps: int) -> dict[str, float]:
    """Mean difference of the mappers' returns, paired by task, with its 95 % interval over tasks."""
    ours, theirs = (
        np.array(next(one["returns"] for one in each["methods"] if (one["method"], one["steps"]) == ("mapper", steps)))
        for each in (new, before)
    )
    found = bootstrap_interval(ours - theirs, np.random.default_rng(0), trimmed=0.0)
    return {"mean": found.estimate, "low": found.low, "high": found.high}
