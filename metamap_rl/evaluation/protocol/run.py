"""A run of the protocol: a directory of cells, each written when it is done, so that a stopped run goes on.

With several zoos of a family, FAMILY is FAMILY-0, FAMILY-1, ...

::

    protocol.json                           what is asked for, of which zoos, with which versions
    FAMILY/references.json                  tasks, returns of random actions, base policy and experts
    FAMILY/mappers/seed-0/                  the mapper of a seed
    FAMILY/mappers/seed-0.json              that it is done, and how long it took
    FAMILY/methods/METHOD+seed=0.json       returns of a method with a seed
    FAMILY/learning/START+SETTING+task=0.json  a training with PPO
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.common.cells import Cell, OnCell, check_cells, check_settings, document_of, run_cells
from metamap_rl.evaluation.protocol.config import ProtocolConfig
from metamap_rl.evaluation.protocol.learning import Lesson, lessons, take
from metamap_rl.evaluation.protocol.methods.mapped import train_protocol_mapper
from metamap_rl.evaluation.protocol.problem import Problem, fingerprint
from metamap_rl.evaluation.protocol.record import FORMAT, MANIFEST, evaluation_of, open_run
from metamap_rl.evaluation.protocol.settings import SHARED, SharedSettings, recorded_mapper
from metamap_rl.evaluation.scores import earlier_names

__all__ = ["open_run", "run_protocol"]


def run_protocol(
    config: ProtocolConfig, zoos: Path, out: Path, executor: Executor, on_cell: OnCell = lambda name, done, total: None
) -> None:
    """Run the cells that ``out`` has not yet.

    Args:
        config: what to run; another one than before may add families, methods and seeds to a run.
        zoos: folder with a zoo for each family, by its name, or several, by its name and a number; or the zoo itself,
            if there is one.
        out: the run's directory.
        executor: where cells run.
        on_cell: told of each new cell.

    Raises:
        MetaMapError: a zoo that is not there or lacks experts, ``out`` holds something else, or cells of other settings
            or of another zoo.
    """
    config.check()
    found = _find_zoos(config, zoos)
    for zoo in found.values():
        _check_zoo(zoo, config)
    prints = {name: fingerprint(zoo) for name, zoo in found.items()}
    work = _Run(config, tuple((name, str(zoo.root), prints[name]) for name, zoo in found.items()))
    manifest = _manifest(config, found, prints, out)
    check_cells(work, out)
    write_json(out / MANIFEST, manifest)  # not before: what is refused changes nothing
    run_cells(work, out, executor, on_cell)


@dataclass(frozen=True)
class _Run:
    """All cells of a run."""

    config: ProtocolConfig
    zoos: tuple[tuple[str, str, str], ...]
    """Of each zoo its name in the run, its folder and its fingerprint."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """Zoo after zoo, what needs earlier cells after them."""
        for name, root, print_of_zoo in self.zoos:
            family = _Family(Zoo.open(root), self.config, out / name, print_of_zoo)
            yield family.first()
            yield family.methods()
            yield family.learning()

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell, _made_with)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run one cell; returns its document."""
        root, folder, kind, name, seed = cell.job
        problem = _problem(root, folder, self.config.model_dump_json())
        started = time.perf_counter()
        found = _FUNCTIONS[kind](problem, self.config, name, seed, cell.settings)
        about = {"family": problem.zoo.family.name, "name": name, "seed": seed, **found}
        return document_of(cell, {**about, "seconds": round(time.perf_counter() - started, 3)})


class _Family:
    """The cells of one zoo of a family, in three stages, each of which needs the one before it."""

    def __init__(self, zoo: Zoo, config: ProtocolConfig, folder: Path, print_of_zoo: str) -> None:
        self.zoo, self.config, self.folder = zoo, config, folder
        self.reference = {"zoo": print_of_zoo, **config.model_dump(mode="json", include={"episodes", "splits"})}
        self.references = {**self.reference, **config.model_dump(mode="json", include={"reference_episodes"})}
        self.trained = {"zoo": print_of_zoo, **config.model_dump(mode="json", include={"probe", "mapper"})}
        self.tested = {} if config.d_from == "probe" else {"d_from": config.d_from}  # older runs have no such key

    def cell(self, kind: str, name: str, seed: int, place: str, settings: Mapping[str, Any]) -> Cell:
        """A cell whose document is at ``place`` in the family's folder."""
        job = (str(self.zoo.root), str(self.folder), kind, name, seed)
        return Cell(f"{self.folder.name}, {name}, seed {seed}", self.folder / place, settings, job)

    def first(self) -> list[Cell]:
        """References, and mappers where a method needs them."""
        cells = [self.cell("references", "references", 0, "references.json", self.references)]
        learning = self.config.learning
        needed = any(self.config.method(name).needs_mapper for name in self.config.methods)
        if needed or (learning is not None and "phi-hat" in learning.starts):
            cells += [
                self.cell("mapper", "mapper", seed, f"mappers/seed-{seed}.json", self.trained)
                for seed in self.config.all_seeds()
            ]
        return cells

    def methods(self) -> list[Cell]:
        """Methods with their seeds."""
        cells = []
        for name in self.config.methods:
            if self.config.method(name).lacking(self.zoo.family, self.zoo.has_universal):
                continue  # refused before, if it was asked for by name
            settings = {
                **self.reference,
                **self.trained,
                **self.tested,
                **self.config.model_dump(mode="json", include={"lengths"}),
                "method": self.config.method(name).model_dump(mode="json"),
            }
            for seed in self.config.seeds_for(name):
                places = [f"methods/{one}+seed={seed}.json" for one in (name, *earlier_names(name))]
                place = next((found for found in places if (self.folder / found).exists()), places[0])
                cells.append(self.cell("method", name, seed, place, settings))
        return cells

    def learning(self) -> list[Cell]:
        """Trainings with PPO on test-in tasks whose experts are clearly better than phi_0; none before references."""
        config, references = self.config.learning, self.folder / "references.json"
        if config is None or not self.zoo.experts("test-in") or "test-in" not in self.config.splits:
            return []
        if not references.is_file():
            return []
        evaluation = evaluation_of(read_json(references), "test-in", self.config.episodes)
        counted = [int(index) for index in evaluation.counted.nonzero()[0]]
        return [
            self.cell(
                "learning",
                lesson.name,
                self.config.first_seed,
                f"learning/{lesson.name}.json",
                {
                    **self.reference,
                    **(self.trained | self.tested if lesson.start == "phi-hat" else {}),
                    **config.model_dump(mode="json", include={"steps", "length"}),
                    "lesson": vars(lesson),
                    "seed": self.config.first_seed,
                    "ppo": config.settings[lesson.setting],
                },
            )
            for lesson in lessons(config, counted)
        ]


@lru_cache(maxsize=1)
def _problem(zoo: str, folder: str, config: str) -> Problem:
    """Cells of one family in one process share rollouts and pairs."""
    return Problem(Zoo.open(zoo), ProtocolConfig.model_validate_json(config), Path(folder) / "mappers")


def _references(
    problem: Problem, config: ProtocolConfig, name: str, seed: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    return {"splits": {split: problem.references(split) for split in problem.splits}}


def _mapper(
    problem: Problem, config: ProtocolConfig, name: str, seed: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    mapper = train_protocol_mapper(problem, seed)
    mapper.save(problem.mapper_folder(seed), overwrite=True)
    return {"chosen_update": mapper.record["chosen_update"]}


def _method(
    problem: Problem, config: ProtocolConfig, name: str, seed: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    method = config.method(name)
    measured = method.measure(problem, seed)
    return {
        "scores": [
            {"split": scored.split, "steps": scored.steps, "returns": scored.returns.tolist()}
            for scored in measured.scores
        ],
        "training_steps": measured.training_steps,
        "record": measured.record,
    }


def _learning(
    problem: Problem, config: ProtocolConfig, name: str, seed: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    assert config.learning is not None, "its cell was made from it"
    return take(Lesson(**settings["lesson"]), config.learning, problem, seed)


_FUNCTIONS: dict[str, Callable[[Problem, ProtocolConfig, str, int, Mapping[str, Any]], dict[str, Any]]] = {
    "references": _references,
    "mapper": _mapper,
    "method": _method,
    "learning": _learning,
}


def _find_zoos(config: ProtocolConfig, root: Path) -> dict[str, Zoo]:
    """The zoos by their names in the run: that of the family, with a number if there are several.

    Raises:
        MetaMapError: a folder that is not there or of another family, or zoos of one family with the same seed, whose
            test tasks would be the same.
    """
    found: dict[str, Zoo] = {}
    for name in (get_family(family).name for family in config.families):
        several = [f"{name}-{number}" for number in range(config.zoos)] if config.zoos > 1 else [name]
        alone = len(config.families) == config.zoos == 1 and (root / "zoo.json").is_file()
        for one in several:
            zoo = Zoo.open(root if alone else root / one)
            if zoo.family.name != name:
                raise MetaMapError(f"{zoo.root}: expected a zoo of {name!r}, it is one of {zoo.family.name!r}")
            found[one] = zoo
        seeds = [found[one].seed for one in several]
        if len(set(seeds)) < len(seeds):
            raise MetaMapError(f"{root}: expected zoos of {name!r} with different seeds, so other tasks, got {seeds}")
    return found


def _check_zoo(zoo: Zoo, config: ProtocolConfig) -> None:
    if zoo.family.space.training_share is not None:
        raise MetaMapError(
            f"{zoo.family.name} has too few settings to hold some of them out for the choices of this protocol; "
            "`metamap mapper evaluate` measures such families"
        )
    if "methods" in config.model_fields_set:
        for name in config.methods:
            if lacking := config.method(name).lacking(zoo.family, zoo.has_universal):
                raise MetaMapError(f"{zoo.root}: method {name} needs {lacking}")
    for split in ("train", "validation"):
        if not zoo.experts(split):
            raise MetaMapError(f"{zoo.root} has no {split} experts; `metamap experts train` makes them")
    if not any(zoo.experts(split) for split in config.splits):
        raise MetaMapError(f"{zoo.root} has no experts of {' or '.join(config.splits)} to measure on")


def _manifest(config: ProtocolConfig, zoos: Mapping[str, Zoo], prints: dict[str, str], out: Path) -> dict[str, Any]:
    """What a new run says of itself, or one that goes on, whose shared settings must be these."""
    path = out / MANIFEST
    known: dict[str, Any] = {}
    if path.exists():
        before = open_run(out)
        for key in SHARED:
            if getattr(before.config, key) != getattr(config, key):
                raise MetaMapError(
                    f"{out} was run with {key} {_shown(before.config, key)}, asked for is {_shown(config, key)}: "
                    "go on with the same, or choose another directory"
                )
        known = before.manifest["zoos"]
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MetaMapError(f"{out} exists and is no run of the protocol (it has no {MANIFEST}); choose another one")
    described = {
        name: {
            "family": zoo.family.name,
            "fingerprint": prints[name],
            "seed": zoo.seed,
            "seen": zoo.seed in config.seen_seeds,
            "experts": {split: len(zoo.experts(split)) for split in ("train", "validation", "test-in", "test-out")},
            "horizon": zoo.family.horizon,
        }
        for name, zoo in zoos.items()
    }
    for name, entry in described.items():
        if name in known and known[name]["fingerprint"] != entry["fingerprint"]:
            raise MetaMapError(f"{out} was run with another zoo of {name!r} than {zoos[name].root} has now")
    all_prints = [entry["fingerprint"] for entry in {**known, **described}.values()]
    if len(set(all_prints)) < len(all_prints):
        raise MetaMapError(f"{out}: expected different zoos, one would be in the run under two names")
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "zoos": {**known, **described},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def _shown(config: ProtocolConfig, key: str) -> Any:
    return config.model_dump(mode="json")[key]


def _made_with(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a cell; those of a mapper may have the names of an earlier version.

    References of earlier versions have as many episodes as methods.
    """
    settings = dict(document["settings"])
    if document.get("name") == "references":
        settings.setdefault("reference_episodes", settings["episodes"])
    if "mapper" in settings:
        settings |= SharedSettings.model_validate({"mapper": recorded_mapper(settings["mapper"])}).model_dump(
            mode="json", include={"mapper"}
        )
    return settings
