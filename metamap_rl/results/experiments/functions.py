"""Few-shot learning of functions: the mapper, MAML and Reptile on the same test tasks.

Mappers are trained by `training.loop.train` with several seeds, checkpoints chosen on validation tasks, and judged
once on test tasks; so are the baselines. A stopped training of a mapper goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from metamap_envs.errors import unknown_name
from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.evaluation.baselines import FewShotBatch
from metamap_rl.functions.benchmarks import BENCHMARKS
from metamap_rl.functions.figures import plot_fits
from metamap_rl.functions.measuring import (
    adapted,
    compare_targets,
    measure_maml,
    measure_mapper,
    measure_references,
    measure_reptile,
    trained_mapper,
)
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import functions_table
from metamap_rl.training.config import TrainConfig
from metamap_rl.viz.figures import save_figure

_REFERENCES = "references"


@EXPERIMENTS.register("functions")
class Functions(Settings):
    """Few-shot learning of functions: the mapper, MAML and Reptile on the same test tasks."""

    families: tuple[str, ...] = tuple(BENCHMARKS)
    seeds: Annotated[Whole, Field(ge=1)] = 5
    """Mappers of each family."""
    baseline_seeds: Annotated[Whole, Field(ge=1)] = 3
    """Runs of MAML and Reptile, side by side."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One training each.

        Raises:
            MetaMapError: a family that there is not.
        """
        for name in self.families:
            if name not in BENCHMARKS:
                raise unknown_name("family of functions", name, BENCHMARKS)
        yield [cell for name in self.families for cell in self._cells(name, out)]

    def _cells(self, family: str, out: Path) -> Iterator[Cell]:
        benchmark = BENCHMARKS[family]()
        shared = {
            "points": benchmark.points,
            "queries": benchmark.queries,
            "tasks": benchmark.tasks,
            "family": repr(benchmark.family),
        }
        mapper = {**shared, "train": asdict(benchmark.mapper), "shape": asdict(benchmark.shape)}
        runs = self.baseline_seeds

        def cell(name: str, settings: Mapping[str, Any], method: str, *job: Any) -> Cell:
            return Cell(f"{family}-{name}", out / f"{family}-{name}.json", settings, (family, method, *job))

        for seed in range(self.seeds):
            yield cell(f"mapper-{seed}", mapper, "mapper", seed)
        reptile = {
            **shared,
            "config": asdict(benchmark.reptile),
            "spec": benchmark.reptile_spec.to_json(),
            "task_points": benchmark.reptile_points,
            "steps": benchmark.reptile_steps,
            "runs": runs,
        }
        yield cell("reptile", reptile, "Reptile", runs)
        for variant, configs in benchmark.maml.items():
            for points, config in configs.items():
                settings = {**shared, "K": points, "config": asdict(config), "steps": benchmark.steps, "runs": runs}
                yield cell(_maml(variant, points), settings, variant, points, runs)
        yield cell(_REFERENCES, shared, _REFERENCES)
        if family == "sinusoid":
            yield cell("targets", {**mapper, "updates": 1000}, "targets")

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings; documents of earlier versions lack the newest of a training."""
        return check_settings(cell, _made_with)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and judge one method, with one seed if it is the mapper."""
        family, method, *job = cell.job
        benchmark = BENCHMARKS[family]()
        if method == "mapper":
            found = measure_mapper(benchmark, job[0], cell.path.with_suffix(".safetensors"))
        elif method == "Reptile":
            found = measure_reptile(benchmark, *job)
        elif method == _REFERENCES:
            found = {"methods": measure_references(benchmark)}
        elif method == "targets":
            found = compare_targets(benchmark)
        else:
            found = measure_maml(benchmark, method, *job)
        return document_of(cell, found)

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Every method of every family; and functions.png, where a mapper of sinusoids is trained."""
        cells = [cell for batch in self.batches(out) for cell in batch if cell.name in documents]
        if (mapper := out / "sinusoid-mapper-0.safetensors").exists():
            draw_sinusoids(out / "functions.png", mapper, documents)
        return {"families": {name: _summary(name, cells, documents) for name in self.families}}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """One table for each family."""
        return functions_table(document)


def _made_with(document: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(document["settings"])
    if "train" in settings:
        settings["train"] = {**asdict(TrainConfig()), **TrainConfig.with_new_names(settings["train"])}
        settings["shape"] = {**asdict(MapperConfig()), **settings["shape"]}
    return settings


def _summary(family: str, cells: Sequence[Cell], documents: Mapping[str, Any]) -> dict[str, Any]:
    """All methods of one family."""
    benchmark = BENCHMARKS[family]()
    by_method: dict[str, list[dict[str, Any]]] = {name: [] for name in ("mapper", "Reptile", *benchmark.maml)}
    settings: dict[str, Any] = {}
    results: dict[str, Any] = {}
    compared: dict[str, Any] = {}
    for cell in (cell for cell in cells if cell.job[0] == family):
        document, method = documents[cell.name], cell.job[1]
        if method == _REFERENCES:
            results = document["methods"]
        elif method == "targets":
            errors = {name: float(np.mean(scores)) for name, scores in document["scores"].items()}
            compared = {key: document[key] for key in ("fit_error", "fit_seconds")} | {"validation_error": errors}
        else:
            by_method[method].append(document)
            name = {"Reptile": "reptile"}.get(method, method)
            settings[f"{name}, K={cell.job[2]}" if method in benchmark.maml else name] = document["settings"]
    trained = {name: merged(parts) for name, parts in by_method.items() if parts}
    rows = [row for method, result in {**trained, **results}.items() for row in summary(method, result)]
    return {
        "score": benchmark.family.score_name,
        "compared_targets": compared,
        "settings": settings,
        "rows": rows,
        "training": {
            method: {key: result[key] for key in ("train_seconds", "chosen", "validation")}
            for method, result in trained.items()
        },
    }


def _maml(variant: str, points: int) -> str:
    """The name of a training of MAML."""
    return f"maml{'' if variant == 'MAML' else '-5-steps'}-{points}"


def summary(method: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each condition of a method."""
    rows = []
    for condition, listed in result["scores"].items():
        scores = np.array(listed)
        mean = bootstrap_interval(scores, np.random.default_rng(0), trimmed=0.0)
        interval = bootstrap_interval(scores, np.random.default_rng(0))
        rows.append(
            {
                "method": method,
                "condition": condition,
                "mean": float(scores.mean()),
                "mean_low": mean.low,
                "mean_high": mean.high,
                "median": float(np.median(scores)),
                "iqm": interval.estimate,
                "iqm_low": interval.low,
                "iqm_high": interval.high,
                "mean_of_each_seed": scores.mean(axis=1).tolist(),
                "seeds": len(scores),
                "tasks": scores.shape[1],
                "ms_per_adaptation": result.get("ms_per_adaptation", {}).get(condition),
            }
        )
    return rows


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put trainings of several seeds, or of several K, into one result."""
    whole: dict[str, Any] = {"scores": {}, "ms_per_adaptation": {}, "train_seconds": [], "chosen": [], "validation": []}
    for part in parts:
        for condition, scores in part["scores"].items():
            whole["scores"].setdefault(condition, []).extend(scores)
        whole["ms_per_adaptation"] |= part["ms_per_adaptation"]
        for key in ("train_seconds", "chosen", "validation"):
            whole[key].extend(part[key])
    return whole


def draw_sinusoids(path: Path, mapper: Path, documents: Mapping[str, Any], tasks: int = 4) -> None:
    """Draw what the first mapper, and MAML where it is trained, make of the first test tasks, K = 5."""
    benchmark = BENCHMARKS["sinusoid"]()
    family, points, steps = benchmark.family, benchmark.points[0], benchmark.steps[-1]
    drawn = benchmark.drawn("test").shots(points)
    episodes = FewShotBatch(**{name: value[:tasks] for name, value in vars(drawn).items()})
    fits = {}
    variant, configs = next(iter(benchmark.maml.items()))
    if maml := documents.get(f"{family.name}-{_maml(variant, points)}"):
        start = torch.tensor(maml["weights"][0])
        fits[f"MAML, {steps} gradient steps"] = adapted(family.spec, start, episodes, configs[points], steps)
    with torch.no_grad():
        fits["mapper, one forward pass"] = trained_mapper(benchmark, 0, mapper)(family.features(episodes))
    save_figure(plot_fits(family.spec, episodes, fits), path)
