"""Flights of unseen quadrotors: RAPTOR beside the policies of zoos and mappers, on the same vehicles and starts.

Each vehicle flies once for each pilot and condition: with what may appear in flight as it was drawn, or without, until
it appears. A flight survives if its episode does not end; errors are means over its last half.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.cloning import Cloning
from metamap_agents.runtime.storage import load_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Number, Whole
from metamap_rl.adaptation.service.trial import Controller
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import bootstrap_interval, rate_of_zoos
from metamap_rl.evaluation.flights import (
    GivenController,
    IdentifiedController,
    SpecialistController,
    fly,
    quadrotor_family,
    vehicles,
)
from metamap_rl.evaluation.hovering.network import FILE, HoverMapper
from metamap_rl.evaluation.hovering.pilot import HoverPilot
from metamap_rl.evaluation.raptor import RaptorController
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.experiments.pilots import UNIVERSAL, Pilots
from metamap_rl.results.flight_tables import flights_table
from metamap_rl.training.checkpoint import digest

TASK_SEED = 9_500_000
_DIGITS = 6  # of stored numbers
_RAPTOR, _LAW = "RAPTOR", "controller, given the truth"
_FOUND, _FOUND_POLICY = "controller, given what least squares find", "universal policy, given what least squares find"
_SPECIAL = "a network of its own"
_READINGS = {
    "window": "mapper of hovering",
    "truth": "its policy, given the truth",
    "nothing": "its policy, given nothing",
    "other": "mapper of hovering, another vehicle's D",
}
_CONDITIONS: dict[str, dict[str, float] | None] = {
    "nothing appears": {},
    "payload": {"payload": 0.2},
    "weak rotor": {"rotor_1": 0.8},
    "wind": {"wind_x": 0.1},
    "as drawn": None,
}


@EXPERIMENTS.register("flights")
class FlightsOfQuadrotors(Pilots):
    """Survival and position errors of unseen quadrotors: RAPTOR, policies of zoos, mappers and their rivals."""

    family: str = "quadrotor-hover"
    """A family of quadrotors."""
    raptor: bool = True
    """Whether RAPTOR flies, which needs the extra `raptor`."""
    law: bool = True
    """Whether the family's controller flies, given the true parameters at once."""
    identified: bool = True
    """Whether the controller, and the universal policy of each zoo, fly given what least squares find out in flight."""
    specialists: Cloning | None = None
    """Settings with which a network of its own is cloned from the controller of each vehicle, as it is at the start of
    a flight; null for no such pilot."""
    hovering: dict[str, Path] = Field(default_factory=dict)
    """Folders of mappers in the coordinates of hovering (`scripts/quadrotor_mapper.py`) by a name for each."""
    readings: tuple[Literal["window", "nothing", "truth", "other"], ...] = ("window", "truth", "nothing", "other")
    """What each of these mappers reads; see `HoverPilot`."""
    conditions: Annotated[dict[str, dict[str, Number] | None], Field(min_length=1)] = _CONDITIONS
    """Parameters that change in flight, by a name for each; null for vehicles as drawn, which do not change."""
    vehicles: Annotated[Whole, Field(ge=2)] = 100
    """Vehicles of a condition; the same in all."""
    steps: Annotated[Whole, Field(ge=2)] = 500
    """Of a flight."""
    change_at: Annotated[Whole, Field(ge=0)] = 200
    """Step of the change."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One cell for each pilot and condition.

        Raises:
            MetaMapError: not a family of quadrotors, a change of something else, a zoo or mapper of another family, or
                without a universal policy; or no pilot.
        """
        if self.change_at > self.steps:
            raise MetaMapError(f"change_at: expected at most the {self.steps} steps of a flight, got {self.change_at}")
        for change in self.conditions.values():
            vehicles(quadrotor_family(self.family), self.split, 1, TASK_SEED, change)
        pilots = self.pilots()
        if not pilots:
            raise MetaMapError("flights: expected RAPTOR, the controller, a zoo or a mapper, got none of them")
        shared = self.model_dump(mode="json", include={"family", "vehicles", "steps", "change_at", "split", "seed"})
        yield [
            Cell(
                f"{condition}, {pilot}",
                out / f"{'-'.join(re.findall(r'[A-Za-z0-9_]+', f'{condition} {pilot}'))}.json",
                {**shared, "change": change, "pilot": pilot, **made_of},
                (condition, pilot),
            )
            for condition, change in self.conditions.items()
            for pilot, made_of in pilots.items()
        ]

    def pilots(self) -> dict[str, dict[str, Any]]:
        """What decides the flights of each pilot, by its name."""
        special = self.specialists is not None
        ours = {_RAPTOR: self.raptor, _LAW: self.law, _FOUND: self.identified, _SPECIAL: special}
        found: dict[str, dict[str, Any]] = {name: {} for name, wanted in ours.items() if wanted}
        if self.specialists is not None:
            found[_SPECIAL] = {"cloning": self.specialists.model_dump(mode="json")}
        for name, folder in self.hovering.items():
            made_of = {"mapper": _digest(folder)}
            found |= {f"{name}: {_READINGS[reads]}": made_of for reads in self.readings}
        found |= super().pilots()
        if self.identified:
            found |= {f"{zoo}: {_FOUND_POLICY}": found[f"{zoo}: {UNIVERSAL}"] for zoo in self.zoos}
        return found

    def controller(self, pilot: str, count: int) -> Controller:
        """A pilot of so many vehicles."""
        family = quadrotor_family(self.family)
        if pilot == _LAW:
            return GivenController(family)
        if pilot == _FOUND:
            return IdentifiedController(family, GivenController(family))
        name, _, what = pilot.partition(": ")
        if name in self.hovering and (reads := {title: key for key, title in _READINGS.items()}.get(what)):
            return HoverPilot(HoverMapper.load(self.hovering[name]), count, reads)
        if pilot == _SPECIAL and self.specialists is not None:
            return SpecialistController(family, self.specialists, self.seed)
        if pilot.endswith(_FOUND_POLICY):
            given = super().controller(pilot.replace(_FOUND_POLICY, UNIVERSAL), count)
            return IdentifiedController(family, given)
        return RaptorController() if pilot == _RAPTOR else super().controller(pilot, count)

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Fly all vehicles of one condition with one pilot."""
        condition, pilot = cell.job
        family = quadrotor_family(self.family)
        before, after = vehicles(family, self.split, self.vehicles, TASK_SEED + self.seed, self.conditions[condition])
        controller = self.controller(pilot, self.vehicles)
        found = fly(controller, before, after, steps=self.steps, change_at=self.change_at, seed=1000 * self.seed)
        return document_of(
            cell,
            {
                "tasks": [task.id for task in after],
                "survived": found.survived.tolist(),
                "metres": _listed(found.errors),
                "arms": _listed(found.arms),
                "returns": _listed(found.returns),
            },
        )

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Survival with its interval, and errors of the flights that survived, by condition and pilot."""
        conditions: dict[str, dict[str, Any]] = {}
        for condition in self.conditions:
            for pilot in self.pilots():
                if found := documents.get(f"{condition}, {pilot}"):
                    conditions.setdefault(condition, {})[pilot] = self._summarised(found) | {
                        "minus": {
                            rival: self._paired(found, flown)
                            for rival in (_RAPTOR, _FOUND)
                            if rival != pilot and (flown := documents.get(f"{condition}, {rival}"))
                        }
                    }
        return {
            "settings": self.model_dump(mode="json", exclude={"zoos", "mappers", "hovering"}),
            "conditions": conditions,
        }

    def _summarised(self, found: Mapping[str, Any]) -> dict[str, Any]:
        survived = np.array(found["survived"], dtype=np.float64)
        rate = rate_of_zoos([survived[None]], np.random.default_rng(self.seed))
        return {
            "survival": {"estimate": rate.estimate, "low": rate.low, "high": rate.high},
            **{name: self._errors(found[name]) for name in ("metres", "arms")},
            "return": float(np.mean(found["returns"])),
        }

    def _paired(self, found: Mapping[str, Any], rival: Mapping[str, Any]) -> dict[str, Any]:
        """Differences to a rival on the same vehicles: survival, and errors in m where both keep in the air."""
        survived = np.array(found["survived"], np.float64) - np.array(rival["survived"], np.float64)
        pairs = zip(found["metres"], rival["metres"], strict=True)
        both = np.array([one - other for one, other in pairs if one is not None and other is not None])
        return {"survival": self._mean(survived), "metres": self._mean(both) if len(both) else None}

    def _mean(self, values: NDArray[np.float64]) -> dict[str, float]:
        found = bootstrap_interval(values[None], np.random.default_rng(self.seed), trimmed=0.0)
        return {"mean": found.estimate, "low": found.low, "high": found.high}

    def _errors(self, found: list[float | None]) -> dict[str, float] | None:
        """Mean with its interval, and median; None where none survived."""
        values = np.array([value for value in found if value is not None])
        if not len(values):
            return None
        mean = bootstrap_interval(values[None], np.random.default_rng(self.seed), trimmed=0.0)
        return {"mean": mean.estimate, "low": mean.low, "high": mean.high, "median": float(np.median(values))}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Conditions and pilots in rows."""
        return flights_table(document)


def _digest(folder: Path) -> str:
    return digest(load_arrays(folder / FILE)[0])


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    """As JSON has them: null for NaN."""
    return [None if np.isnan(value) else round(float(value), _DIGITS) for value in values]
