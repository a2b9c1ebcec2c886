"""Ablations: which part of the mapper does what, as a table of cells that differ from a baseline in one factor.

A cell is one training with one seed, measured on *validation* tasks: designs are chosen with it, so test tasks stay
untouched. Because the checkpoint is chosen on the same tasks, its numbers are somewhat too good, all by the same rule.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field, field_validator

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import Number, Seed, Settings, Whole, parse, read_document
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.survey import Survey
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.probes import PROBES
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import on_policy
from metamap_rl.training.loop import train
from metamap_rl.training.pipeline import SURVEY_TASKS, survey_of, training_pairs

__all__ = ["FACTORS", "AblationConfig", "Cell", "load_ablation", "run_ablation", "summarise"]


class Cell(Settings):
    """One training: a choice for each factor."""

    loss: str = "both"
    hypernetwork: str = "residual"
    encoder: str = "pooling"
    tasks: Annotated[Whole, Field(ge=1)] | None = None
    """Training tasks, the first so many by their order in the zoo; all of them if left out."""
    probe: str = "base-policy"
    dagger_rounds: Annotated[Whole, Field(ge=0, validation_alias=AliasChoices("dagger_rounds", "rounds"))] = 0
    """Times that states of the generated policies are added to the training set; earlier versions say ``rounds``."""
    auxiliary: str | None = None
    """What z is to be good for besides: dynamics, or nothing."""
    aligned: bool = False
    """Whether the hidden units of each expert are put in the order of the base policy's."""
    survey_tasks: Annotated[Whole, Field(ge=0)] = SURVEY_TASKS
    """Tasks without experts; 0 leaves the survey out."""
    survey_coefficient: Annotated[Number, Field(ge=0)] = TrainConfig().survey_coefficient
    """Share in the loss of telling the survey's coordinates; 0 learns nothing of them."""
    context_size: Annotated[Whole, Field(ge=2)] = 32
    hidden: Annotated[Whole, Field(ge=1)] = 128
    """Width of the hypernetwork's hidden layers."""
    bottleneck: bool = False
    """Whether the hypernetwork sees of z only the task's coordinates; needs a survey."""
    seed: Seed = 0

    @property
    def name(self) -> str:
        """What differs from the defaults, and the seed: the name of the cell's file."""
        changed = self.model_dump(exclude_defaults=True)
        changed.pop("seed", None)
        choices = [f"{key}={value}" for key, value in changed.items()] or ["default"]
        return "+".join([*choices, f"seed={self.seed}"])

    def train_config(self, updates: int) -> TrainConfig:
        """How it trains."""
        shared = {"loss", "seed", "dagger_rounds", "auxiliary", "survey_coefficient"}
        return TrainConfig(steps=updates, **self.model_dump(include=shared))

    def mapper_config(self) -> MapperConfig:
        """The mapper's shape."""
        return MapperConfig(
            encoder=self.encoder,
            hypernetwork=self.hypernetwork,
            context_size=self.context_size,
            hypernetwork_hidden=self.hidden,
            bottleneck=self.bottleneck,
        )


FACTORS = tuple(name for name in Cell.model_fields if name != "seed")
"""What can be varied."""
_OLD_FACTORS = {"rounds": "dagger_rounds"}


class AblationConfig(Settings):
    """Which cells to run."""

    family: str
    seeds: Annotated[Whole, Field(ge=1)] = 3
    updates: Annotated[Whole, Field(ge=1)] = TrainConfig().steps
    lengths: tuple[Annotated[Whole, Field(ge=1)], ...] = (5, 50, 200)
    """Steps of D to measure at."""
    episodes: Annotated[Whole, Field(ge=1)] = 10
    baseline: Cell = Cell()
    """What the others differ from, in one factor each."""
    vary: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other choices, by factor."""
    cross: tuple[str, ...] = ()
    """Factors of which all combinations are run besides."""

    @field_validator("vary", "cross", mode="before")
    @classmethod
    def _renamed(cls, value: object) -> object:
        if isinstance(value, dict):
            return {_OLD_FACTORS.get(factor, factor): choices for factor, choices in value.items()}
        return [_OLD_FACTORS.get(factor, factor) for factor in value] if isinstance(value, list | tuple) else value

    def cells(self) -> list[Cell]:
        """All cells, those of the baseline first; each once.

        Raises:
            MetaMapError: a factor or choice that there is not.
        """
        for factor in [*self.vary, *self.cross]:
            if factor not in FACTORS:
                raise unknown_name("factor", factor, FACTORS)
        base = self.baseline.model_dump()
        choices = {factor: [base[factor], *values] for factor, values in self.vary.items()}
        rows: list[dict[str, Any]] = [{}]
        rows += [{factor: value} for factor, values in choices.items() for value in values[1:]]
        crossed = [[(factor, value) for value in choices.get(factor, [base[factor]])] for factor in self.cross]
        rows += [dict(row) for row in itertools.product(*crossed) if crossed]
        found: dict[str, Cell] = {}
        for row in rows:
            for seed in range(self.seeds):
                cell = parse(Cell, {**base, **row, "seed": seed}, "ablation")
                cell.train_config(self.updates), cell.mapper_config(), PROBES.get(cell.probe)  # all names are known
                found.setdefault(cell.name, cell)
        return list(found.values())


def load_ablation(path: str | Path) -> AblationConfig:
    """Read a config from a YAML file.

    Raises:
        MetaMapError: no file that can be read, not YAML, or an unknown key, factor or choice.
    """
    config = parse(AblationConfig, read_document(path), str(path))
    config.cells()
    return config


def run_ablation(
    config: AblationConfig, zoo: Zoo, out: Path, executor: Executor, on_cell: Callable[[str], None] = lambda name: None
) -> list[dict[str, Any]]:
    """Run the cells that ``out`` has not yet; each is written when it is done, so a stopped ablation goes on.

    Args:
        config: what to run.
        zoo: with training and validation experts of the family.
        out: folder of the cells' documents.
        executor: where they run.
        on_cell: called with each new cell's name.

    Raises:
        MetaMapError: the zoo is of another family or lacks experts, fewer training experts than a cell asks for, or
            ``out`` holds cells of another config.
    """
    if zoo.family.name != config.family:
        raise MetaMapError(f"{zoo.root}: expected a zoo of {config.family!r}, it is one of {zoo.family.name!r}")
    cells = config.cells()
    available = len(zoo.experts("train"))
    for cell in cells:
        if (cell.tasks or 0) > available:
            raise MetaMapError(f"{zoo.root}: {cell.name} needs {cell.tasks} training experts, there are {available}")
    paths = [_cell_path(out, cell) for cell in cells]
    shared = {
        "updates": config.updates,
        "lengths": list(config.lengths),
        "episodes": config.episodes,
        "zoo": {"family": zoo.family.name, "seed": zoo.seed, "base policy": digest({"phi": zoo.base.phi})},
    }
    for cell, path in zip(cells, paths, strict=True):
        if path.exists():
            _check_same(read_json(path), path, cell, shared)
    todo = [index for index, path in enumerate(paths) if not path.exists()]
    jobs = [(str(zoo.root), cells[index].model_dump(), shared) for index in todo]
    for index, document in executor.run(run_cell, jobs):
        write_json(paths[todo[index]], document)
        on_cell(cells[todo[index]].name)
    return [read_json(path) for path in paths]


def _cell_path(out: Path, cell: Cell) -> Path:
    """The file of a cell; an earlier version may have written it under the old name of a factor."""
    older = out / f"{cell.name.replace('dagger_rounds=', 'rounds=')}.json"
    return older if older.exists() else out / f"{cell.name}.json"


def _check_same(document: Any, path: Path, cell: Cell, settings: dict[str, Any]) -> None:
    """Refuse a file that is not of this cell, run with these settings on this zoo."""
    try:
        found, choices = document["settings"], Cell(**document["cell"])
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: not a cell of an ablation; choose another directory") from None
    if found != settings or choices != cell:
        raise MetaMapError(f"{path} was run with other settings or another zoo; choose another directory")


def run_cell(root: str, choices: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Train and measure one cell; returns its document."""
    cell, zoo = Cell(**choices), Zoo.open(root)
    with torch_threads(1):
        training, held_out = (_pairs(root, split, cell.probe, cell.aligned) for split in ("train", "validation"))
        if cell.tasks is not None:
            training = _first(training, zoo, cell.tasks)
        survey = _survey(root, cell.probe, cell.survey_tasks) if cell.survey_tasks else None
        started = time.perf_counter()
        mapper = train(
            training,
            zoo.base,
            family=zoo.family.name,
            probe=probe_to_json(PROBES.get(cell.probe)()),
            config=cell.train_config(settings["updates"]),
            mapper_config=cell.mapper_config(),
            validation=held_out,
            survey=survey,
            visit=on_policy(training, zoo.base, num_threads=1),
        )
        seconds = time.perf_counter() - started
        evaluation = evaluate_mappers(
            [mapper],
            zoo.experts("validation"),
            lengths=settings["lengths"],
            episodes=settings["episodes"],
            controls=False,
            num_threads=1,
        )
    losses = [entry["validation"] for entry in mapper.record["history"]]
    return {
        "cell": cell.model_dump(),
        "settings": settings,
        "seconds": seconds,
        "theta": sum(parameter.numel() for parameter in mapper.parameters()),
        "chosen_update": mapper.record["chosen_update"],
        "validation_loss": {"first": losses[0], "least": min(losses), "last": losses[-1]},
        "counted": evaluation.counted.tolist(),
        "gap_closed": {
            str(scores.steps): evaluation.gap_closed(scores.returns)[0].tolist() for scores in evaluation.methods
        },
        "mean_return": {str(scores.steps): float(scores.returns.mean()) for scores in evaluation.methods},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def summarise(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each setting: IQM of gap closed over seeds and validation tasks with a 95 % interval, by length."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        choices = Cell(**{**document["cell"], "seed": 0}).model_dump()  # older cells lack the newest factors
        groups.setdefault(json.dumps(choices, sort_keys=True), []).append(document)
    rows = []
    for found in groups.values():
        cell = Cell(**{**found[0]["cell"], "seed": 0})
        gap = {}
        for length in found[0]["gap_closed"]:
            values = np.array([document["gap_closed"][length] for document in found])
            if values.size:
                interval = bootstrap_interval(values, np.random.default_rng(0))
                gap[length] = {"iqm": interval.estimate, "low": interval.low, "high": interval.high}
        rows.append(
            {
                "name": cell.name.removesuffix("+seed=0"),
                "choices": cell.model_dump(exclude={"seed"}),
                "seeds": len(found),
                "gap_closed": gap,
                "mean_return": {
                    length: float(np.mean([document["mean_return"][length] for document in found]))
                    for length in found[0]["mean_return"]
                },
                "validation_loss": float(np.mean([document["validation_loss"]["least"] for document in found])),
                "theta": found[0]["theta"],
                "seconds": float(np.mean([document["seconds"] for document in found])),
            }
        )
    return rows


@cache
def _pairs(root: str, split: str, probe: str, aligned: bool) -> Pairs:
    """Training or validation pairs; cells of one process share them."""
    return training_pairs(Zoo.open(root), split, PROBES.get(probe)(), aligned=aligned)


@cache
def _survey(root: str, probe: str, count: int) -> Survey:
    return survey_of(Zoo.open(root), PROBES.get(probe)(), count=count)


def _first(pairs: Pairs, zoo: Zoo, count: int) -> Pairs:
    """The first tasks by their order in the zoo, so that a larger number has the smaller one in it."""
    row = {task.id: index for index, task in enumerate(pairs.tasks)}
    drawn = len(row)
    while len(tasks := [task for task in zoo.tasks("train", drawn) if task.id in row]) < count:
        drawn *= 2  # experts of tasks early in the order are missing
    return pairs.select([row[task.id] for task in tasks[:count]])
