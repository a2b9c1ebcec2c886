"""Run a benchmark: all unfinished cells, in parallel.

::

    bench.yaml                          the benchmark, with all settings
    manifest.json                       versions, machine, command
    zoo/                                the expert cache of all cells
    learners/<name>/                    users' learners, copied by `metamap bench add`
    cells/<stream>/<learner>-order0-seed0/
        cell.json                       the result; marks a finished cell
        ...                             a run directory of `metamap stream run`
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_bytes, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_environments
from metamap_rl.bench.config import BenchCell, BenchConfig, bench_to_yaml, load_bench
from metamap_rl.bench.contract import describe_error
from metamap_rl.bench.entry import ExternalSettings
from metamap_rl.bench.external import check_external, run_external
from metamap_rl.bench.result import CELL, CellResult, cell_document, of_run, read_cell
from metamap_rl.common.cells import Cell, OnCell, compare_settings, run_cells
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.events import OnStream
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.run import open_run, resume, start

__all__ = ["BenchWork", "open_bench", "run_bench"]

_CELLS, _CONFIG, _MANIFEST, _ZOO = "cells", "bench.yaml", "manifest.json", "zoo"
_FILES = "files of the learner"


def open_bench(out: Path) -> BenchConfig:
    """Load the benchmark of a folder.

    Raises:
        MetaMapError: not a benchmark folder.
    """
    if not (out / _CONFIG).is_file():
        raise MetaMapError(f"{out}: not a benchmark folder: it has no {_CONFIG}")
    return load_bench(out / _CONFIG)


def run_bench(
    config: BenchConfig,
    out: Path,
    executor: Executor,
    *,
    zoo: Path | None = None,
    command: str = "",
    on_cell: OnCell = lambda name, done, total: None,
    on_event: OnStream | None = None,
) -> list[CellResult]:
    """Run all unfinished cells.

    Args:
        config: the benchmark.
        out: its folder; finished cells with the same settings are kept.
        executor: executor of cells and experts.
        zoo: expert cache; default in the folder.
        command: command line, for the record.
        on_cell: called with (name, finished cells, all cells) for each finished cell, including earlier ones.
        on_event: callback for the progress of experts.

    Returns:
        The results of all cells of ``config``, in order.

    Raises:
        MetaMapError: the folder has other content, a cell with other settings, or, after all others are finished, a
            cell failed.
    """
    out = out.resolve()
    _claim(out)
    work = BenchWork(config, out / _ZOO if zoo is None else zoo.resolve())
    (cells,) = work.batches(out)
    left = [cell for cell in cells if not work.is_done(cell)]
    _check_learners(left)
    write_bytes(out / _CONFIG, bench_to_yaml(config).encode())
    about = {"versions": library_versions(), "machine": describe_machine(torch_threads=1)}
    write_json(out / _MANIFEST, {**about, "command": command, "name": config.name})
    for number, cell in enumerate((cell for cell in cells if cell not in left), start=1):
        on_cell(cell.name, number, len(cells))
    for stream in {(cell.job[0].stream, cell.job[0].seed): cell.job[1] for cell in left}.values():
        StreamPlan.of(stream, work.zoo).prepare(executor, on_event=on_event)  # all orders have the same tasks
    run_cells(work, out, executor, on_cell)
    return [read_cell(cell.path.parent) for cell in cells]


def _check_learners(cells: Sequence[Cell]) -> None:
    """Construct the external learners, to find errors before anything is trained.

    Raises:
        MetaMapError: one cannot be constructed, or would not learn.
    """
    for cell, config, external in {(cell.job[0].stream, cell.job[0].learner): cell.job for cell in cells}.values():
        try:
            if external is not None:
                check_external(external, config.stream.family_names)
        except MetaMapError as error:
            raise MetaMapError(f"learner {cell.learner!r}: {error}") from None


@dataclass(frozen=True)
class BenchWork:
    """The cells of a benchmark; a cell's job is (`BenchCell`, `StreamConfig`, `ExternalSettings` or None)."""

    config: BenchConfig
    zoo: Path
    """Expert cache."""

    def batches(self, out: Path) -> list[list[Cell]]:
        """All cells, in one batch."""
        return [[self._cell(cell, out) for cell in self.config.cells()]]

    def _cell(self, cell: BenchCell, out: Path) -> Cell:
        config, external = self.config.cell_config(cell), _absolute(self.config.external(cell.learner), out)
        settings = config.resolved()
        if external is not None:
            settings |= _split(_recorded(external))
        return Cell(cell.name, out / _CELLS / cell.name / CELL, settings, (cell, config, external))

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell is finished; one that was started must have the same settings, too."""
        folder, finished = cell.path.parent, cell.path.is_file()
        if not finished and not (folder / _MANIFEST).is_file():
            return False
        document = read_json(cell.path if finished else folder / _MANIFEST)
        check_environments(document.get("environments", {}), str(folder))
        found: dict[str, Any] = document["config"] if finished else _config_of(folder)
        if _FILES in cell.settings and isinstance(found.get("learner"), dict):
            found |= {_FILES: cell.settings[_FILES]} | _split(found["learner"])  # older cells have no hash of files
        compare_settings(folder, {key: found.get(key) for key in cell.settings}, cell.settings)
        return finished

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run or resume a cell."""
        try:
            return cell_document(_run_cell(cell, self.zoo))
        except Exception as error:
            if isinstance(error, MetaMapError) or cell.job[2] is None:
                raise
            raise MetaMapError(describe_error(error)) from error  # user code may raise anything


def _run_cell(cell: Cell, zoo: Path) -> CellResult:
    which: BenchCell
    config: StreamConfig
    external: ExternalSettings | None
    (which, config, external), folder = cell.job, cell.path.parent
    names: dict[str, Any] = {"stream": which.stream, "learner": which.learner, "order": which.order}
    if external is not None:
        shutil.rmtree(folder, ignore_errors=True)  # remains of a killed run: external learners restart
        made = _recorded(external)  # before the run, since its code may be edited meanwhile
        result = run_external(config, external, zoo, **names)
        return replace(result, config={**result.config, "learner": made})
    if (folder / _MANIFEST).is_file():
        run = open_run(folder)
        if not run.finished:
            run.record.close()
            run = resume(folder, num_threads=1)
    else:
        run = start(config, folder, zoo=zoo, num_threads=1)
    with run.record:
        return of_run(run, **names)


def _claim(out: Path) -> None:
    """Raise an error for a folder with other content.

    Raises:
        MetaMapError: it has other content.
    """
    if out.is_dir() and not (out / _CONFIG).is_file() and any(out.iterdir()):
        raise MetaMapError(f"{out}: not a benchmark; name an empty or a new folder")


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
