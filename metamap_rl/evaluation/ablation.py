"""Ablations: which part of the mapper does what, as a table of cells that differ from a baseline in one factor.

A cell is one training with one seed, measured on *validation* tasks: designs are chosen with it, so test tasks stay
untouched. Because the checkpoint is chosen on the same tasks, its numbers are somewhat too good, all by the same rule.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_serializer, field_validator

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import Settings, Whole, parse, read_document
from metamap_rl.common.cells import Cell, OnCell, check_settings, document_of, run_cells
from metamap_rl.common.config import Positive
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.survey import Survey
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.mixture import ActorPool, supported
from metamap_rl.probing.probes import PROBES
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.config import MapperRecipe
from metamap_rl.training.from_experts import on_policy
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.pipeline import survey_of, training_pairs

__all__ = ["FACTORS", "Ablation", "AblationConfig", "Choice", "load_ablation", "run_ablation", "summarise"]


@dataclass(frozen=True)
class Choice(MapperRecipe):
    """One training: a choice for each factor."""

    called: ClassVar[str] = "ablation"

    tasks: Positive | None = None
    """Training tasks, the first so many by their order in the zoo; all of them if left out."""
    probe: str = "base-policy"
    """How D is collected."""

    def __post_init__(self) -> None:
        PROBES.get(self.probe)
        super().__post_init__()

    @property
    def name(self) -> str:
        """What differs from `BASELINE`, and the seed: the name of the cell's file."""
        return f"{_name(self.choices)}+seed={self.training.seed}"

    @property
    def choices(self) -> dict[str, Any]:
        """Of every factor, as plain JSON values."""
        return {factor: _plain(value) for factor, value in self.flat().items() if factor in FACTORS}


BASELINE = Choice().changed(hypernetwork="residual", actors="probe")
"""What the baseline of a config and the names of cells are changes of, whatever the default of mappers is."""

_FIRST = ("loss", "hypernetwork", "encoder", "tasks", "probe", "dagger_rounds", "auxiliary", "aligned", "survey_tasks")
FACTORS = (*_FIRST, *(name for name in Choice.names() if name not in (*_FIRST, "updates", "seed")))
"""What can be varied, in the order of names of files."""


class AblationConfig(Settings):
    """Which cells to run."""

    family: str
    seeds: Annotated[Whole, Field(ge=1)] = 3
    updates: Annotated[Whole, Field(ge=1)] = BASELINE.training.updates
    lengths: tuple[Annotated[Whole, Field(ge=1)], ...] = (5, 50, 200)
    """Steps of D to measure at."""
    episodes: Annotated[Whole, Field(ge=1)] = 10
    baseline: Choice = BASELINE
    """What the others differ from, in one factor each: what is not as in `BASELINE`."""
    vary: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other choices, by factor."""
    cross: tuple[str, ...] = ()
    """Factors of which all combinations are run besides."""

    @field_validator("baseline", mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return _cell(value) if isinstance(value, Mapping) else value

    @field_serializer("baseline")
    def _flat(self, baseline: Choice) -> dict[str, Any]:
        return baseline.choices

    @field_validator("vary", mode="before")
    @classmethod
    def _with_new_names(cls, value: object) -> object:
        return Choice.with_new_names(value) if isinstance(value, Mapping) else value

    @field_validator("cross", mode="before")
    @classmethod
    def _crossed_with_new_names(cls, value: object) -> object:
        return list(Choice.with_new_names(dict.fromkeys(value))) if isinstance(value, list | tuple) else value

    def choices(self) -> list[Choice]:
        """All cells, those of the baseline first; each once.

        Raises:
            MetaMapError: a factor or choice that there is not.
        """
        for factor in [*self.vary, *self.cross]:
            if factor not in FACTORS:
                raise unknown_name("factor", factor, FACTORS)
        base = self.baseline.flat()
        choices = {factor: [base[factor], *values] for factor, values in self.vary.items()}
        rows: list[dict[str, Any]] = [{}]
        rows += [{factor: value} for factor, values in choices.items() for value in values[1:]]
        crossed = [[(factor, value) for value in choices.get(factor, [base[factor]])] for factor in self.cross]
        rows += [dict(row) for row in itertools.product(*crossed) if crossed]
        found: dict[str, Choice] = {}
        for row in rows:
            for seed in range(self.seeds):
                cell = self.baseline.changed(**row, seed=seed)
                cell.changed(updates=self.updates)  # fits all choices
                found.setdefault(cell.name, cell)
        return list(found.values())


def load_ablation(path: str | Path) -> AblationConfig:
    """Read a config from a YAML file.

    Raises:
        MetaMapError: no file that can be read, not YAML, or an unknown key, factor or choice.
    """
    config = parse(AblationConfig, read_document(path), str(path))
    config.choices()
    return config


def run_ablation(
    config: AblationConfig, zoo: Zoo, out: Path, executor: Executor, on_cell: OnCell = lambda name, done, total: None
) -> list[dict[str, Any]]:
    """Run the cells that ``out`` has not yet; each is written when it is done, so a stopped ablation goes on.

    Args:
        config: what to run.
        zoo: with training and validation experts of the family.
        out: folder of the cells' documents.
        executor: where they run.
        on_cell: told of each new cell.

    Raises:
        MetaMapError: the zoo is of another family or lacks experts, fewer training experts than a cell asks for, or
            ``out`` holds cells of another config.
    """
    work = Ablation(**dict(config), zoo=zoo.root)
    run_cells(work, out, executor, on_cell)
    return [read_json(cell.path) for batch in work.batches(out) for cell in batch]


class Ablation(AblationConfig):
    """Ablations: which part of the mapper does what, on validation tasks."""

    zoo: Path
    """Of the family, with training and validation experts."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One training each, all at once.

        Raises:
            MetaMapError: the zoo is of another family, or lacks experts.
        """
        zoo, choices = Zoo.open(self.zoo), self.choices()
        if zoo.family.name != self.family:
            raise MetaMapError(f"{self.zoo}: expected a zoo of {self.family!r}, it is one of {zoo.family.name!r}")
        there = len(zoo.experts("train"))
        for choice in choices:
            if (choice.tasks or 0) > there:
                raise MetaMapError(
                    f"{self.zoo}: {choice.name} needs {choice.tasks} training experts, there are {there}"
                )
        shared = {
            "updates": self.updates,
            "lengths": list(self.lengths),
            "episodes": self.episodes,
            "zoo": {"family": zoo.family.name, "seed": zoo.seed, "base policy": digest({"phi": zoo.base.phi})},
        }
        yield [
            Cell(choice.name, _path(out, choice), {"cell": choice.flat(), **shared}, (choice,)) for choice in choices
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there; older cells lack the newest factors, or have them by other names."""
        return check_settings(cell, lambda document: {**document["settings"], "cell": _cell(document["cell"]).flat()})

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and measure one cell."""
        (choice,) = cell.job
        settings = {key: value for key, value in cell.settings.items() if key != "cell"}
        found = _measure(str(self.zoo), choice, self)
        return {**document_of(cell, found), "cell": choice.flat(), "settings": settings}


def _path(out: Path, choice: Choice) -> Path:
    """The file of a cell; an earlier version may have written it under the old name of a factor."""
    old = choice.name.replace("dagger_rounds=", "rounds=").replace("hypernetwork_hidden=", "hidden=")
    older = out / f"{old}.json"
    return older if older.exists() else out / f"{choice.name}.json"


def _measure(root: str, choice: Choice, config: AblationConfig) -> dict[str, Any]:
    zoo = Zoo.open(root)
    actors = choice.collected_by if choice.collected_by is None else supported(choice.collected_by, _pool(root))
    training, held_out = (
        _pairs(root, split, choice.probe, choice.aligned, actors) for split in ("train", "validation")
    )
    if choice.tasks is not None:
        training = _first(training, zoo, choice.tasks)
    started = time.perf_counter()
    data = TrainingData(
        training,
        zoo.base,
        zoo.family.name,
        probe_to_json(PROBES.get(choice.probe)()),
        validation=held_out,
        survey=_survey(root, choice.probe, choice.survey_tasks, actors),
        visit=on_policy(training, zoo.base, num_threads=1),
        actors=actors,
    )
    mapper = train(data, config=choice.changed(updates=config.updates).training, mapper_config=choice.shape)
    seconds = time.perf_counter() - started
    evaluation = evaluate_mappers(
        [mapper],
        zoo.experts("validation"),
        lengths=config.lengths,
        episodes=config.episodes,
        reference_episodes=config.episodes,
        controls=False,
        num_threads=1,
    )
    losses = [entry["validation"] for entry in mapper.record["history"]]
    return {
        "seconds": seconds,
        "theta": sum(parameter.numel() for parameter in mapper.parameters()),
        "chosen_update": mapper.record["chosen_update"],
        "validation_loss": {"first": losses[0], "least": min(losses), "last": losses[-1]},
        "counted": evaluation.counted.tolist(),
        "gap_closed": {
            str(scores.steps): evaluation.gap_closed(scores.returns)[0].tolist() for scores in evaluation.methods
        },
        "mean_return": {str(scores.steps): float(scores.returns.mean()) for scores in evaluation.methods},
    }


def summarise(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each setting: IQM of gap closed over seeds and validation tasks with a 95 % interval, by length."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        # Of an earlier version a cell may lack factors, and have choices that have left.
        choices = {**BASELINE.choices, **Choice.with_new_names(document["cell"])}
        groups.setdefault(json.dumps({key: choices[key] for key in FACTORS}), []).append(document)
    rows = []
    for key, found in groups.items():
        choices = json.loads(key)
        gap = {}
        for length in found[0]["gap_closed"]:
            values = np.array([document["gap_closed"][length] for document in found])
            if values.size:
                interval = bootstrap_interval(values, np.random.default_rng(0))
                gap[length] = {"iqm": interval.estimate, "low": interval.low, "high": interval.high}
        rows.append(
            {
                "name": _name(choices),
                "choices": choices,
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


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _name(choices: Mapping[str, Any]) -> str:
    """What differs from `BASELINE`."""
    default = BASELINE.choices
    changed = [f"{factor}={choices[factor]}" for factor in FACTORS if choices[factor] != default[factor]]
    return "+".join(changed) or "default"


def _cell(choices: Mapping[str, Any]) -> Choice:
    """A cell of some choices, also of an earlier version; the others are those of `BASELINE`."""
    return BASELINE.changed(**choices)


@cache
def _pairs(root: str, split: str, probe: str, aligned: bool, actors: ActorMixture | None) -> Pairs:
    """Training or validation pairs; cells of one process share them."""
    return training_pairs(Zoo.open(root), split, PROBES.get(probe)(), aligned=aligned, actors=actors)


@cache
def _survey(root: str, probe: str, count: int, actors: ActorMixture | None) -> Survey | None:
    return survey_of(Zoo.open(root), PROBES.get(probe)(), count=count, actors=actors)


@cache
def _pool(root: str) -> ActorPool:
    return ActorPool.of_zoo(Zoo.open(root))


def _first(pairs: Pairs, zoo: Zoo, count: int) -> Pairs:
    """The first tasks by their order in the zoo, so that a larger number has the smaller one in it."""
    row = {task.id: index for index, task in enumerate(pairs.tasks)}
    drawn = len(row)
    while len(tasks := [task for task in zoo.tasks("train", drawn) if task.id in row]) < count:
        drawn *= 2  # experts of tasks early in the order are missing
    return pairs.select([row[task.id] for task in tasks[:count]])
