"""Mappers that were trained on different D, read on D of different origins.

On validation tasks, to choose recipes; on test tasks once, when all is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.zoo import Zoo
from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import DSource
from metamap_rl.probing.mixture import ActorPool
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.sources_tables import sources_table
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.config import MapperRecipe
from metamap_rl.training.pipeline import train_mapper

_RECIPES: dict[str, dict[str, Any]] = {
    "probe": {"actors": "probe"},
    "mixture": {},
    "mixture with changes": {"change_share": 0.55},
}


@EXPERIMENTS.register("sources")
class Sources(Settings):
    """Mappers trained on D of the probe and of mixtures of actors, read on D of different origins."""

    zoo: Path
    """Zoo with training and validation experts."""
    split: Literal["validation", "test-in", "test-out"] = "validation"
    """Whose tasks are read."""
    recipes: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = _RECIPES
    """Changes of the usual recipe of mappers, by a name for each."""
    d_from: Annotated[tuple[DSource, ...], Field(min_length=1)] = ("probe", "service", "expert", "excitation")
    """Origins of D, as in `metamap mapper evaluate`."""
    lengths: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (5, 20, 50, 100)
    """Transitions of D."""
    updates: Annotated[Whole, Field(ge=1)] = 4000
    """Of every mapper."""
    seeds: Annotated[Whole, Field(ge=1)] = 1
    """Mappers of each recipe."""
    episodes: Annotated[Whole, Field(ge=2)] = 10
    """Of a method on a task; references have 50."""
    rivals: bool = False
    """Whether the methods that need no mapper of their own are measured too, such as `estimate` and `sysid`."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """Mappers, then what those of a recipe are measured on."""
        zoo = Zoo.open(self.zoo)
        trained = {"zoo": {"seed": zoo.seed, "base policy": digest({"phi": zoo.base.phi})}, "updates": self.updates}
        measured = self.model_dump(mode="json", include={"d_from", "lengths", "episodes", "rivals", "seeds"})
        measured |= {} if self.split == "validation" else {"split": self.split}  # older runs have no such key
        made = {name: {**trained, "recipe": changes} for name, changes in self.recipes.items()}
        yield [
            Cell(
                f"{name}, seed {seed}", self._folder(out, name, seed).with_suffix(".json"), settings, (name, seed, out)
            )
            for name, settings in made.items()
            for seed in range(self.seeds)
        ]
        yield [
            Cell(name, out / f"{name.replace(' ', '-')}.json", {**settings, **measured}, (name, None, out))
            for name, settings in made.items()
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train a mapper, or measure those of a recipe."""
        name, seed, out = cell.job
        zoo = Zoo.open(self.zoo)
        if seed is not None:
            folder = self._folder(out, name, seed)
            recipe = MapperRecipe().changed(updates=self.updates, seed=seed).changed(**self.recipes[name])
            checkpoint = folder.with_suffix(".safetensors")
            mapper = train_mapper(zoo, recipe=recipe, calibration=None, checkpoint=checkpoint)
            mapper.save(folder, overwrite=True)
            checkpoint.unlink(missing_ok=True)
            return document_of(cell, {"chosen_update": mapper.record["chosen_update"]})
        found = {
            origin: evaluate_mappers(
                [Mapper.load(self._folder(out, name, seed)) for seed in range(self.seeds)],
                zoo.experts(self.split),
                lengths=self.lengths,
                episodes=self.episodes,
                controls=self.rivals,
                d_from=origin,
                pool=ActorPool.of_zoo(zoo),
            ).summary()
            for origin in self.d_from
        }
        return document_of(cell, {"origins": found})

    def _folder(self, out: Path, name: str, seed: int) -> Path:
        return out / f"{name.replace(' ', '-')}-{seed}"

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Evaluations by recipe and origin of D, and paired differences of the mapper's gap closed."""
        recipes = {name: documents[name]["origins"] for name in self.recipes if name in documents}
        return {
            "family": Zoo.open(self.zoo).family.name,
            "settings": self.model_dump(mode="json", exclude={"zoo"}),
            "chosen_updates": {name: one["chosen_update"] for name, one in documents.items() if "chosen_update" in one},
            "recipes": recipes,
            "differences": self.differences(recipes),
        }

    def differences(self, recipes: Mapping[str, Any]) -> dict[str, Any]:
        """Paired differences of the mapper's gap closed, by recipe, origin of D and length.

        Args:
            recipes: evaluations by recipe and origin of D.
        """
        return {name: {origin: self._differences(recipes, name, origin) for origin in self.d_from} for name in recipes}

    def _differences(self, recipes: Mapping[str, Any], name: str, origin: str) -> dict[str, Any]:
        """What a recipe loses with D of an origin against D of the first, and against the first recipe, by length."""
        found: dict[str, Any] = {}
        for steps in self.lengths:
            ours = _gap_closed(recipes[name][origin], steps)
            others = {
                f"minus D of {self.d_from[0]}": _gap_closed(recipes[name][self.d_from[0]], steps),
                f"minus trained on {next(iter(recipes))}": _gap_closed(next(iter(recipes.values()))[origin], steps),
            }
            if ours.size:
                found[str(steps)] = {other: _mean_difference(ours, theirs) for other, theirs in others.items()}
        return found

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Origins of D and recipes in rows, lengths in columns."""
        return sources_table(document)


def _gap_closed(evaluation: Mapping[str, Any], steps: int) -> NDArray[np.float64]:
    """Gap closed of the mapper on the tasks that have a gap, [seeds, tasks], from a summary of an evaluation."""
    (row,) = [one for one in evaluation["methods"] if (one["method"], one["steps"]) == ("mapper", steps)]
    base, expert = (np.array(evaluation[f"{name}_returns"]) for name in ("base", "expert"))
    paired, counted = np.array(evaluation.get("paired_base_returns", base)), np.array(evaluation["counted"], dtype=bool)
    gained: NDArray[np.float64] = (np.array(row["returns"]) - paired)[:, counted] / (expert - base)[counted]
    return gained


def _mean_difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, float]:
    """Mean of a paired difference [seeds, tasks] with its 95 % interval over both."""
    found = bootstrap_interval(ours - theirs, np.random.default_rng(0), trimmed=0.0)
    return {"mean": found.estimate, "low": found.low, "high": found.high}
