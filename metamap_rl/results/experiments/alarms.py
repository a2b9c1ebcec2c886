"""Alterations of D that the self-checks of the bundled mappers notice, and false alarms. No policy is run.

D of validation tasks that no calibration has seen are collected by each mapper's probe and altered afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, Whole, parse
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import bundled_families, find_mapper
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture, DSource
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.probing.mixture import ActorPool, collect_mixture
from metamap_rl.results.alterations import ALTERATIONS
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import alarms_table
from metamap_rl.training.checkpoint import digest

_TASK_SEED, _PROBE_SEED = 9_100_000, 9_200_000


@EXPERIMENTS.register("alarms")
class Alarms(Settings):
    """Which alterations of D the self-checks of mappers notice, and how often they raise a false alarm."""

    mappers: Annotated[tuple[str, ...], Field(min_length=1)] = bundled_families()
    """Names of bundled mappers, or folders."""
    lengths: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (20, 50, 100, 200)
    """Transitions of D."""
    tasks: Annotated[Whole, Field(ge=1)] = 64
    """Of each family, with one D each."""
    d_from: DSource = "probe"
    """Who collects D, as in `metamap mapper evaluate`. All but the probe need mappers that hold a universal policy."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each mapper."""
        older = {"d_from"} if self.d_from == "probe" else set()  # documents from before there was a choice
        shared = self.model_dump(mode="json", exclude={"mappers", *older})
        cells = []
        for name in self.mappers:
            mapper, folder = find_mapper(name)
            settings = {**shared, "mapper": digest(mapper.arrays())}
            cells.append(Cell(folder.name, out / f"{folder.name}.json", settings, (str(folder),)))
        yield cells

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Share of D that is out of distribution, by alteration and transitions."""
        mapper, _ = find_mapper(cell.job[0])
        tasks = get_family(mapper.family).sample("validation", self.tasks, _TASK_SEED)
        found = self._collect(mapper, tasks)
        foreign: dict[str, dict[str, float]] = {}
        for name, alter in ALTERATIONS.items():
            generator, shares = np.random.default_rng(0), {}
            for steps in self.lengths:
                # a D of n transitions is altered as such: a drift has reached its end there
                altered = [alter(found.rollout(task).head(steps), generator) for task in range(len(tasks))]
                verdicts = [verdict for verdict in map(mapper.judge, altered) if verdict is not None]
                shares[str(steps)] = float(np.mean([verdict.novelty > 1 for verdict in verdicts]))
            foreign[name] = shares
        return document_of(cell, {"foreign": foreign})

    def _collect(self, mapper: Mapper, tasks: Sequence[Task]) -> Rollouts:
        probe, steps = probe_from_json(mapper.probe), max(self.lengths)
        if self.d_from == "probe":
            return collect(probe, tasks, mapper.base, steps=steps, seed=_PROBE_SEED)
        trained_on = parse(ActorMixture, mapper.actors, "actors of the mapper") if mapper.actors else None
        pool = ActorPool.of_universal(mapper.base, mapper.universal, _PROBE_SEED)
        source = ActorMixture.source(self.d_from, trained_on)
        return collect_mixture(source, pool, probe, tasks, steps=steps, seed=_PROBE_SEED)

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Shares by mapper."""
        foreign = {name: document["foreign"] for name, document in documents.items()}
        return {"foreign": foreign, "settings": self.model_dump(mode="json", exclude={"mappers"})}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Alterations in rows, families in columns."""
        return alarms_table(document)
