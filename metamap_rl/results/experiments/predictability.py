"""Whether a zoo's experts are a function of the task; looks at training and validation experts only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from metamap_agents.experts.zoo import Zoo
from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.evaluation.predictability import explained_variance, interpolation_barrier, privileged_error
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import predictability_table
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import task_coordinates


@EXPERIMENTS.register("predictability")
class Predictability(Settings):
    """Whether a zoo's experts are a function of the task: variance explained, barriers, privileged error."""

    zoos: Annotated[tuple[Path, ...], Field(min_length=1)]
    loss: str = TrainConfig().loss
    """Of the mapper that is given the parameters."""
    hypernetwork: str = MapperConfig().hypernetwork
    updates: Annotated[Whole, Field(ge=1)] = TrainConfig().updates
    seeds: Annotated[Whole, Field(ge=1)] = 2
    """Such mappers."""
    episodes: Annotated[Whole, Field(ge=1)] = 10

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each zoo."""
        shared = self.model_dump(mode="json", exclude={"zoos"})
        zoos = [Zoo.open(path) for path in self.zoos]
        yield [
            Cell(
                zoo.family.name,
                out / f"{zoo.family.name}.json",
                {**shared, "zoo": {"seed": zoo.seed, "base policy": digest({"phi": zoo.base.phi})}},
                (str(zoo.root),),
            )
            for zoo in zoos
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """All three measures of one zoo."""
        zoo = Zoo.open(cell.job[0])
        training, held_out = zoo.experts("train"), zoo.experts("validation")
        coordinates = task_coordinates([expert.task for expert in training])
        change = np.stack([expert.phi for expert in training])
        barrier = interpolation_barrier(training, zoo.base, episodes=self.episodes)
        config = TrainConfig(loss=self.loss, updates=self.updates, batch_tasks=min(16, len(training)))
        shape = MapperConfig(hypernetwork=self.hypernetwork)
        told = [
            privileged_error(training, held_out, zoo.base, config=replace(config, seed=seed), mapper_config=shape)
            for seed in range(self.seeds)
        ]
        found = {
            "family": zoo.family.name,
            "tasks": {"training": len(training), "held_out": len(held_out)},
            "explained_variance": {
                name: asdict(explained_variance(coordinates, change, degree))
                for name, degree in (("linear", 1), ("quadratic", 2))
            },
            "interpolation": {
                "pairs": len(barrier.pairs),
                "barrier": _quartiles(barrier.barrier),
                "crossed_loss": _quartiles(barrier.crossed_loss),
                "returns": {name: getattr(barrier, name).tolist() for name in ("random", "own", "crossed", "middle")},
            },
            "told_error": {name: [entry[name] for entry in told] for name in ("training", "held_out")},
        }
        return document_of(cell, found)

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Documents by family."""
        return {"families": dict(documents)}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """One row for each family."""
        return predictability_table(document)


def _quartiles(values: Any) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"quarter": float(low), "median": float(median), "three_quarters": float(high)}
