"""Few-shot classification of sentences: generated classifiers beside classics, MAML and Reptile on the same tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.evaluation.baselines import FewShotBatch, train_maml, train_reptile
from metamap_rl.functions import FewShotMap, initial_weights
from metamap_rl.functions.benchmarks import TEXT
from metamap_rl.functions.text import Text, accuracy
from metamap_rl.functions.text_rivals import (
    CLASSICS,
    MAML,
    QUERIES,
    REPTILE,
    SHOTS,
    WAYS,
    drawn,
    draws_for,
    score_mapper,
    score_start,
    used,
)
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.text_tables import text_table

Scores = dict[str, dict[str, list[float]]]
"""By number of sentences of each class, then by number of classes: accuracy on each task."""

_STEPS = (1, 5, 10)
_VALIDATION_TASKS = 20


@EXPERIMENTS.register("text")
class TextRun(Settings):
    """Few-shot classification of sentences: generated classifiers, MAML, Reptile and classics on the same tasks."""

    seeds: Annotated[Whole, Field(ge=1)] = 5
    """Mappers; runs of MAML and Reptile, side by side."""
    tasks: Annotated[Whole, Field(ge=2)] = 250
    """Test tasks of each number of classes."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """Classics, mappers one by one, MAML for each number of sentences, and Reptile."""
        shared = {"tasks": self.tasks, "queries": QUERIES, "ways": WAYS, "shots": SHOTS}

        def cell(name: str, job: tuple[Any, ...], **settings: Any) -> Cell:
            return Cell(name, out / f"{name}.json", {**shared, **settings}, job)

        cells = [
            cell(name.replace(" ", "-").replace(",", "").lower(), ("classic", name), choices=choices)
            for name, (_, choices) in CLASSICS.items()
        ]
        trained = [
            cell(f"mapper-{seed}", ("mapper", seed), train=asdict(TEXT), seed=seed) for seed in range(self.seeds)
        ]
        # The slowest classic is done after the mappers.
        cells = [*cells[:-1], *trained, cells[-1]]
        cells += [cell(f"maml-{count}", ("MAML", count), config=asdict(MAML), runs=self.seeds) for count in SHOTS]
        yield [*cells, cell("reptile", ("Reptile",), config=asdict(REPTILE), runs=self.seeds)]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and judge one method; of a mapper also with D of another task."""
        method, *job = cell.job
        work: dict[str, Callable[..., dict[str, Any]]] = {
            "classic": self._classic,
            "mapper": self._mapper,
            "MAML": self._maml,
            "Reptile": self._reptile,
        }
        return document_of(cell, work[method](*job))

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Accuracy of all methods, and by how much the mappers are ahead, task by task."""
        scores = _merged(documents)
        rows = {method: {shots: _intervals(of[shots]) for shots in of} for method, of in scores.items()}
        ahead = {
            method: {shots: _ahead(scores["mapper"][shots], of[shots]) for shots in of}
            for method, of in scores.items()
            if "mapper" in scores and method != "mapper"
        }
        chosen = {name: document["chosen"] for name, document in documents.items() if "chosen" in document}
        runs = {method: len(next(iter(next(iter(of.values())).values()))) for method, of in scores.items()}
        return {"tasks": self.tasks, "runs": runs, "rows": rows, "ahead": ahead, "chosen": chosen}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Accuracy over all numbers of classes, and for two and five."""
        return text_table(document)

    def _scored(self, score: Callable[[FewShotBatch], list[float]], counts: tuple[int, ...] = SHOTS) -> Scores:
        """Scores on the test tasks."""
        return {
            str(count): {str(ways): score(drawn(ways, "test", self.tasks)[0].shots(count * ways)) for ways in WAYS}
            for count in counts
        }

    def _classic(self, name: str) -> dict[str, Any]:
        make, choices = CLASSICS[name]
        judged, tested = make("validation"), make("test")
        found: dict[str, Any] = {}
        chosen: dict[str, float] = {}
        for count in SHOTS:
            best = choices[0] if len(choices) == 1 else max(choices, key=partial(_on_validation, judged, count))
            scores = _classic(tested, best, count, "test", self.tasks)
            found[str(count)] = {ways: [listed] for ways, listed in scores.items()}
            chosen[str(count)] = best
        return {"scores": {name: found}, "chosen": chosen}

    def _mapper(self, seed: int) -> dict[str, Any]:
        few_shot = FewShotMap(seed=seed).fit("text")
        mapper, hidden = few_shot.mapper_, few_shot.mapper_.base.spec.hidden
        own = self._scored(lambda episodes: score_mapper(mapper, hidden, episodes))
        wrong = self._scored(lambda episodes: score_mapper(mapper, hidden, _rolled(episodes)))
        scores = {"mapper": _listed(own), "mapper, D of another task": _listed(wrong)}
        return {"scores": scores, "chosen_update": mapper.record["chosen_update"]}

    def _maml(self, count: int) -> dict[str, Any]:
        start = initial_weights(Text().spec, torch.Generator().manual_seed(MAML.seed), count=self.seeds)
        found = train_maml(Text().spec, start, draws_for(count, QUERIES), MAML)
        return {"scores": self._of_starts("MAML", found, MAML.inner_rate, _STEPS, (count,))}

    def _reptile(self) -> dict[str, Any]:
        start = initial_weights(Text().spec, torch.Generator().manual_seed(REPTILE.seed), count=self.seeds)
        found = train_reptile(Text().spec, start, draws_for(SHOTS[-1], 1), REPTILE)
        return {"scores": self._of_starts("Reptile", found, REPTILE.inner_rate, (*_STEPS, 50), SHOTS)}

    def _of_starts(
        self, method: str, starts: torch.Tensor, rate: float, steps: tuple[int, ...], counts: tuple[int, ...]
    ) -> dict[str, Any]:
        """Scores of all runs after each number of steps."""
        found = {}
        for taken in steps:
            runs = [self._scored(partial(score_start, start, rate, taken), counts) for start in starts]
            found[f"{method}, {taken} step{'s' * (taken > 1)}"] = {
                shots: {ways: [run[shots][ways] for run in runs] for ways in runs[0][shots]} for shots in runs[0]
            }
        return found


def _classic(method: Any, setting: float, count: int, split: str, tasks: int) -> dict[str, list[float]]:
    """Accuracy of a classic on each task, by number of classes."""
    found = {}
    for ways in WAYS:
        episodes, places = drawn(ways, split, tasks)
        points = count * ways
        own = used(episodes.shots(points))
        which = torch.cat([places[:, :points], places[:, SHOTS[-1] * ways :]], dim=1)
        found[str(ways)] = accuracy(method(own, which, setting), own.targets).tolist()
    return found


def _on_validation(method: Any, count: int, setting: float) -> float:
    """Mean accuracy of a classic on validation tasks."""
    return _mean(_classic(method, setting, count, "validation", _VALIDATION_TASKS))


def _mean(scores: Mapping[str, list[float]]) -> float:
    return float(np.mean([np.mean(listed) for listed in scores.values()]))


def _listed(scores: Scores) -> dict[str, dict[str, list[list[float]]]]:
    """As of one run."""
    return {shots: {ways: [listed] for ways, listed in of.items()} for shots, of in scores.items()}


def _rolled(episodes: FewShotBatch) -> FewShotBatch:
    """Each task with D of the one before."""
    return FewShotBatch(
        episodes.support_inputs.roll(1, 0), episodes.support_targets.roll(1, 0), episodes.inputs, episodes.targets
    )


def _merged(documents: Mapping[str, Any]) -> dict[str, Any]:
    """Scores [runs, tasks] by method, number of sentences and number of classes."""
    merged: dict[str, Any] = {}
    for document in documents.values():
        for method, by_shots in document["scores"].items():
            for shots, by_ways in by_shots.items():
                for ways, runs in by_ways.items():
                    merged.setdefault(method, {}).setdefault(shots, {}).setdefault(ways, []).extend(runs)
    return merged


def _table_of(by_ways: Mapping[str, Any], ways: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores [runs, tasks] of one number of classes, or of all."""
    listed = [by_ways[str(count)] for count in WAYS] if ways == "all" else [by_ways[ways]]
    return np.concatenate([np.array(one, dtype=np.float64) for one in listed], axis=1)


def _intervals(by_ways: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mean with its 95 % interval over runs and tasks, by number of classes."""
    return {
        ways: _of(bootstrap_interval(_table_of(by_ways, ways), np.random.default_rng(0), trimmed=0.0))
        for ways in (*map(str, WAYS), "all")
    }


def _ahead(mapper: Mapping[str, Any], other: Mapping[str, Any]) -> list[float]:
    """Mean difference on the same tasks, over all numbers of classes."""
    difference = _table_of(mapper, "all") - _table_of(other, "all").mean(axis=0)
    return _of(bootstrap_interval(difference, np.random.default_rng(0), trimmed=0.0))


def _of(interval: Any) -> list[float]:
    return [float(interval.estimate), float(interval.low), float(interval.high)]
