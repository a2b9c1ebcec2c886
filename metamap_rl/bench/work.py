"""The cells of a benchmark and of its tuning, and how one is run."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_environments
from metamap_rl.bench.config import BenchCell, BenchConfig
from metamap_rl.bench.contract import describe_error
from metamap_rl.bench.course import Course, FamilyCourse
from metamap_rl.bench.entry import ExternalSettings
from metamap_rl.bench.environment_course import EnvironmentCourse
from metamap_rl.bench.environments import EnvironmentStreamConfig
from metamap_rl.bench.external import run_external
from metamap_rl.bench.result import CELL, CellResult, cell_document, of_run, read_cell
from metamap_rl.bench.tuning import TUNING, Candidate, Choice, TuningSettings, choose, head
from metamap_rl.common.cells import Cell, compare_settings
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.run import open_run, resume, start

__all__ = ["MANIFEST", "BenchWork", "Choices", "TuningWork"]

MANIFEST = "manifest.json"
"""Name of the record of a benchmark's or a run's versions."""

_CELLS = "cells"
_FILES = "files of the learner"

Job = tuple[BenchCell, StreamConfig | EnvironmentStreamConfig, ExternalSettings | None, dict[str, Any] | None]
"""A cell, its config, the settings of a learner from elsewhere, and the record of its tuning."""
Choices = dict[tuple[str, str], Choice]
"""Tuned settings by (stream, learner)."""


@dataclass(frozen=True)
class BenchWork:
    """The cells of a benchmark; each has a `Job`."""

    config: BenchConfig
    zoo: Path
    """Expert cache."""
    chosen: Choices = field(default_factory=dict)
    """Tuned settings, by stream and learner."""

    def batches(self, out: Path) -> list[list[Cell]]:
        """All cells, in one batch."""
        return [[self._cell(cell, out) for cell in self.config.cells()]]

    def _cell(self, cell: BenchCell, out: Path) -> Cell:
        choice = self.chosen.get((cell.stream, cell.learner))
        values = {} if choice is None else choice.values
        config, external = self.config.cell_config(cell, values), self.config.external(cell.learner, values)
        record = None if choice is None else choice.record
        return _cell(cell.name, (cell, config, _absolute(external, out), record), out / _CELLS / cell.name / CELL)

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is finished; one that was started must have the same settings, too."""
        folder, finished = cell.path.parent, cell.path.is_file()
        if not finished and not (folder / MANIFEST).is_file():
            return False
        document = read_json(cell.path if finished else folder / MANIFEST)
        if isinstance(cell.job[1], StreamConfig):
            check_environments(document.get("environments", {}), str(folder))
        found: dict[str, Any] = document["config"] if finished else _config_of(folder)
        if _FILES in cell.settings and isinstance(found.get("learner"), dict):
            found |= {_FILES: cell.settings[_FILES]} | _split(found["learner"])  # older cells have no hash of files
        compare_settings(folder, {key: found.get(key) for key in cell.settings}, cell.settings)
        return finished

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run or resume a cell."""
        try:
            document = cell_document(_run_cell(cell, self.zoo))
            if (record := cell.job[3]) is not None:
                document["config"] = {**document["config"], TUNING: record}
            return document
        except (Exception, SystemExit) as error:
            if isinstance(error, MetaMapError) or cell.job[2] is None:
                raise
            raise MetaMapError(describe_error(error)) from error  # of user code


@dataclass(frozen=True)
class TuningWork(BenchWork):
    """The cells of a benchmark's tuning: every candidate on the first part of its stream, in the first order."""

    def batches(self, out: Path) -> list[list[Cell]]:
        """All cells, in one batch."""
        return [[cell for found in self._by_candidate(out).values() for cells in found for cell in cells]]

    def choices(self, out: Path) -> Choices:
        """What is chosen, from the documents of all cells."""
        chosen: Choices = {}
        for (stream, learner), by_candidate in self._by_candidate(out).items():
            candidates = []
            for values, cells in zip(self._tuning.candidates(learner), by_candidate, strict=True):
                results = [read_cell(cell.path.parent) for cell in cells]
                scores = [result.metrics["AP_final"] for result in results]
                steps = sum(sum(result.environment_steps) for result in results)
                candidates.append(Candidate(values, scores, steps))
            arrivals = self._head(stream, learner, 0)
            chosen[stream, learner] = choose(candidates, self._tuning, arrivals, f"{learner} on {stream}")
        return chosen

    @property
    def _tuning(self) -> TuningSettings:
        assert self.config.tuning is not None, "there is something to tune"
        return self.config.tuning

    def _by_candidate(self, out: Path) -> dict[tuple[str, str], list[list[Cell]]]:
        """Cells by seed of each candidate, by (stream, learner)."""
        return {
            (stream, learner): [
                [self._of(stream, learner, number, values, seed, out) for seed in range(self._tuning.seeds)]
                for number, values in enumerate(self._tuning.candidates(learner))
            ]
            for stream in self.config.streams
            for learner in self._tuning.grids
        }

    def _of(self, stream: str, learner: str, number: int, values: dict[str, Any], seed: int, out: Path) -> Cell:
        which = BenchCell(stream, learner, 0, seed)
        config = self.config.cell_config(which, values, stop_after=self._head(stream, learner, seed))
        name = f"{stream}/{learner}-candidate{number}-seed{seed}"
        external = _absolute(self.config.external(learner, values), out)
        return _cell(f"{TUNING}/{name}", (which, config, external, None), out / TUNING / name / CELL)

    def _head(self, stream: str, learner: str, seed: int) -> int:
        config = self.config.cell_config(BenchCell(stream, learner, 0, seed))
        whole = StreamPlan.of(config, self.zoo).tasks if isinstance(config, StreamConfig) else config.stream.arriving
        return head(len(whole), self._tuning.share)


def _cell(name: str, job: Job, path: Path) -> Cell:
    _, config, external, _ = job
    settings = config.resolved()
    if external is not None:
        settings |= _split(_recorded(external))
    return Cell(name, path, settings, job)


def _run_cell(cell: Cell, zoo: Path) -> CellResult:
    which: BenchCell
    config: StreamConfig | EnvironmentStreamConfig
    external: ExternalSettings | None
    (which, config, external, _), folder = cell.job, cell.path.parent
    names: dict[str, Any] = {"stream": which.stream, "learner": which.learner, "order": which.order}
    if external is not None:
        shutil.rmtree(folder, ignore_errors=True)  # remains of a killed run: external learners restart
        made = _recorded(external)  # before the run, since its code may be edited meanwhile
        result = run_external(_course(config, zoo), external, **names)
        return replace(result, config={**result.config, "learner": made})
    assert isinstance(config, StreamConfig), "checked by BenchConfig"
    if (folder / MANIFEST).is_file():
        run = open_run(folder)
        if not run.finished:
            run.record.close()
            run = resume(folder, num_threads=1)
    else:
        run = start(config, folder, zoo=zoo, num_threads=1)
    with run.record:
        return of_run(run, **names)


def _course(config: StreamConfig | EnvironmentStreamConfig, zoo: Path) -> Course:
    return FamilyCourse.of(config, zoo) if isinstance(config, StreamConfig) else EnvironmentCourse.of(config, zoo)


def _config_of(folder: Path) -> dict[str, object]:
    run = open_run(folder)
    run.record.close()
    return run.config.resolved()


def _recorded(external: ExternalSettings) -> dict[str, Any]:
    """Settings of an external learner, and hash of its files, for comparison."""
    settings = external.model_dump(mode="json")
    if external.folder is None:
        return settings
    return {**settings, "folder": _name(external.folder), "files": _digest(Path(external.folder))}


def _split(learner: dict[str, Any]) -> dict[str, Any]:
    """Settings of a cell from those recorded of its learner; its folder may have been moved."""
    settings = {"learner": {**learner, "folder": _name(learner.get("folder"))}}
    files = settings["learner"].pop("files", None)
    return settings if files is None else {**settings, _FILES: files}


def _name(folder: str | None) -> str | None:
    return None if folder is None else Path(folder).name


def _digest(folder: Path) -> str:
    """SHA-256 of names and content of all files of a folder except hidden and compiled ones."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{'/'.join(parts)} {content}\n".encode())
    return total.hexdigest()


def _absolute(external: ExternalSettings | None, out: Path) -> ExternalSettings | None:
    """Settings of a learner, with a folder relative to the benchmark resolved."""
    if external is None or external.folder is None or Path(external.folder).is_absolute():
        return external
    return external.model_copy(update={"folder": str(out / external.folder)})
