"""Walks of an unseen legged robot in RMA's protocol: its task is drawn anew in mid-run, and nobody says when.

Each trial is one episode for each pilot and condition, with the same tasks, changes and starts. It succeeds if there is
no fall up to its last step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Number, Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import Interval, Ratio, bootstrap_interval, rate_of_zoos, ratio_of_sums
from metamap_rl.evaluation.service.methods import BASE, ORACLE
from metamap_rl.evaluation.service.trials import ServiceTrials, draw_trials, schedule_of
from metamap_rl.evaluation.walks import walk, walking_family
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.experiments.pilots import UNIVERSAL, Pilots
from metamap_rl.results.walk_tables import walks_table

_SEED = 9_600_000
_DIGITS = 6  # of stored numbers


class WalkCondition(Settings):
    """Tasks of a condition."""

    nominal: bool = False
    """Whether all parameters are at their defaults, throughout."""
    hazard: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Probability before each step that the task is drawn anew."""


_CONDITIONS = {
    "nominal": WalkCondition(nominal=True),
    "as drawn": WalkCondition(),
    "RMA's protocol": WalkCondition(hazard=0.01),
}


@EXPERIMENTS.register("walks")
class WalksOfLeggedRobots(Pilots):
    """Success, distance and return of a legged robot whose task changes: policies of zoos, mappers and rivals."""

    family: str = "go1-velocity"
    """A family of robots that move freely."""
    conditions: Annotated[dict[str, WalkCondition], Field(min_length=1)] = _CONDITIONS
    """By a name for each."""
    trials: Annotated[Whole, Field(ge=2)] = 100
    """Of each condition."""
    steps: Annotated[Whole, Field(ge=1)] = 1000
    """Of a trial."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One cell for each pilot and condition.

        Raises:
            MetaMapError: not a family of robots that move freely, a zoo or mapper of another family, or without a
                universal policy; or no pilot.
        """
        walking_family(self.family)
        pilots = self.pilots()
        if not pilots:
            raise MetaMapError("walks: expected a zoo or a mapper, got none of them")
        shared = self.model_dump(mode="json", include={"family", "trials", "steps", "split", "seed"})
        yield [
            Cell(
                f"{condition}, {pilot}",
                out / f"{'-'.join(re.findall(r'[A-Za-z0-9_]+', f'{condition} {pilot}'))}.json",
                {**shared, **when.model_dump(mode="json"), "pilot": pilot, **made_of},
                (condition, pilot),
            )
            for condition, when in self.conditions.items()
            for pilot, made_of in pilots.items()
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Walk all trials of one condition with one pilot."""
        condition, pilot = cell.job
        trials = self._trials(self.conditions[condition])
        found = walk(self.controller(pilot, self.trials), trials)
        numbers = {"distances": found.distances, "seconds": found.seconds, "returns": found.returns}
        return document_of(
            cell,
            {
                "trials": trials.digest,
                "succeeded": found.succeeded.tolist(),
                **{name: np.round(values, _DIGITS).tolist() for name, values in numbers.items()},
            },
        )

    def _trials(self, when: WalkCondition) -> ServiceTrials:
        family = walking_family(self.family)
        schedule = schedule_of(self.split, hazard=when.hazard, changes=())
        drawn = draw_trials(family, schedule, steps=self.steps, trials=self.trials, entropy=[_SEED, self.seed])
        return ServiceTrials([[family.task()] * self.trials] * self.steps, drawn.seeds) if when.nominal else drawn

    # results ----------------------------------------------------------------------------------------------------------

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Rates and means with their intervals by condition and pilot, and shares between base policy and oracle."""
        conditions: dict[str, dict[str, Any]] = {}
        for condition in self.conditions:
            found = {pilot: documents.get(f"{condition}, {pilot}") for pilot in self.pilots()}
            there = {pilot: document for pilot, document in found.items() if document}
            conditions[condition] = {pilot: self._summarised(pilot, there) for pilot in there}
        settings = self.model_dump(mode="json", exclude={"zoos", "mappers"})
        return {"settings": settings, "conditions": {name: found for name, found in conditions.items() if found}}

    def _summarised(self, pilot: str, documents: Mapping[str, Any]) -> dict[str, Any]:
        generator, found = np.random.default_rng(self.seed), documents[pilot]
        success = rate_of_zoos([_numbers(found, "succeeded")[None]], generator)
        means = {
            name: _entry(bootstrap_interval(_numbers(found, name)[None], generator, trimmed=0.0))
            for name in ("distances", "seconds", "returns")
        }
        subject = pilot.rpartition(": ")[0]
        base, best = (documents.get(f"{subject}: {name}") for name in (BASE, ORACLE))
        best = best or documents.get(f"{subject}: {UNIVERSAL}")
        shares: dict[str, Any] = {}
        if base and best:
            shares = {
                f"share_of_{name}": _entry(_share([_numbers(one, name) for one in (found, base, best)], generator))
                for name in ("succeeded", "returns")
            }
        return {"success": _entry(success), **means, **shares}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Conditions and pilots in rows."""
        return walks_table(document)


def _numbers(document: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    return np.array(document[name], dtype=np.float64)


def _share(scores: list[NDArray[np.float64]], generator: np.random.Generator) -> Ratio | None:
    """(mine - base) / (best - base) of the three scores of trials, a ratio of sums."""
    mine, base, best = scores
    return ratio_of_sums((mine - base)[None], best - base, generator)


def _entry(found: Interval | Ratio | None) -> dict[str, float | None] | None:
    return None if found is None else {"estimate": found.estimate, "low": found.low, "high": found.high}
