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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_bytes, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_environments
from metamap_rl.bench.config import BenchConfig, Cell, bench_to_yaml, load_bench
from metamap_rl.bench.contract import describe_error
from metamap_rl.bench.entry import ExternalSettings
from metamap_rl.bench.external import check_external, run_external
from metamap_rl.bench.result import CELL, CellResult, of_run, read_cell, write_cell
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.events import OnStream
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.run import open_run, resume, start

__all__ = ["CELLS", "OnCell", "cell_folder", "open_bench", "run_bench"]

CELLS, _CONFIG, _MANIFEST, _ZOO, _LEARNERS = "cells", "bench.yaml", "manifest.json", "zoo", "learners"

OnCell = Callable[[Cell, int, int], None]
"""Called with (cell, finished cells, all cells) for each finished cell, including earlier ones."""


def cell_folder(out: Path, cell: Cell) -> Path:
    """Folder of a cell."""
    return out / CELLS / cell.name


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
    on_cell: OnCell | None = None,
    on_event: OnStream | None = None,
) -> list[CellResult]:
    """Run all unfinished cells.

    Args:
        config: the benchmark.
        out: its folder; finished cells with the same settings are kept.
        executor: executor of cells and experts.
        zoo: expert cache; default in the folder.
        command: command line, for the record.
        on_cell: called for finished cells.
        on_event: callback for the progress of experts.

    Returns:
        The results of all cells of ``config``, in order.

    Raises:
        MetaMapError: the folder has other content, a cell with other settings, or, after all others are finished, a
            cell failed.
    """
    out = out.resolve()
    _claim(out)
    cells = config.cells()
    streams = {cell: config.cell_config(cell) for cell in cells}
    externals = {cell: _absolute(config.external(cell.learner), out) for cell in cells}
    done = [cell for cell in cells if _is_finished(cell_folder(out, cell), streams[cell], externals[cell])]
    left = [cell for cell in cells if cell not in done]
    _check_learners(left, externals, streams)
    write_bytes(out / _CONFIG, bench_to_yaml(config).encode())
    write_json(
        out / _MANIFEST,
        {
            "versions": library_versions(),
            "machine": describe_machine(torch_threads=1),
            "command": command,
            "name": config.name,
        },
    )
    for number, cell in enumerate(done, start=1):
        if on_cell is not None:
            on_cell(cell, number, len(cells))
    cache = out / _ZOO if zoo is None else zoo.resolve()
    for key in dict.fromkeys((cell.stream, cell.seed) for cell in left):  # all orders have the same tasks
        first = next(streams[cell] for cell in left if (cell.stream, cell.seed) == key)
        StreamPlan.of(first, cache).prepare(executor, on_event=on_event)
    jobs = [(cell, streams[cell], externals[cell], str(cell_folder(out, cell))) for cell in left]
    failed: dict[Cell, str] = {}
    for index, error in executor.run(run_cell, jobs, share=(str(cache),)):
        if error:
            failed[left[index]] = error
            continue
        done.append(left[index])
        if on_cell is not None:
            on_cell(left[index], len(done), len(cells))
    if failed:
        cell, error = next(iter(failed.items()))
        raise MetaMapError(f"{len(failed)} of {len(cells)} cells failed, such as {cell.name}: {error}")
    return [read_cell(cell_folder(out, cell)) for cell in cells]


def _check_learners(
    cells: Sequence[Cell], externals: Mapping[Cell, ExternalSettings | None], streams: Mapping[Cell, StreamConfig]
) -> None:
    """Construct the external learners, to find errors before anything is trained.

    Raises:
        MetaMapError: one cannot be constructed, or would not learn.
    """
    seen: set[tuple[str, str]] = set()
    for cell in cells:
        settings = externals[cell]
        if settings is None or (cell.stream, cell.learner) in seen:
            continue
        seen.add((cell.stream, cell.learner))
        try:
            check_external(settings, streams[cell].stream.family_names)
        except MetaMapError as error:
            raise MetaMapError(f"learner {cell.learner!r}: {error}") from None


def run_cell(zoo: str, cell: Cell, config: StreamConfig, external: ExternalSettings | None, out: str) -> str:
    """Run or resume one cell, unless it is finished; returns the reason of a failure, or ""."""
    try:
        if not Path(out, CELL).is_file():
            _run_cell(zoo, cell, config, external, Path(out))
    except MetaMapError as error:
        return str(error)
    except Exception as error:
        if external is None:
            raise
        return describe_error(error)  # user code may raise anything
    return ""


def _run_cell(zoo: str, cell: Cell, config: StreamConfig, external: ExternalSettings | None, folder: Path) -> None:
    if external is not None:
        shutil.rmtree(folder, ignore_errors=True)  # remains of a killed run: external learners restart
        made = _recorded(external)  # before the run, since its code may be edited meanwhile
        result = run_external(config, external, Path(zoo), stream=cell.stream, learner=cell.learner, order=cell.order)
        write_cell(folder, replace(result, config={**result.config, "learner": made}))
        return
    if (folder / _MANIFEST).is_file():
        run = open_run(folder)
        run.record.close()
        if not run.finished:
            run = resume(folder, num_threads=1)
    else:
        run = start(config, folder, zoo=zoo, num_threads=1)
    with run.record:
        write_cell(folder, of_run(run, stream=cell.stream, learner=cell.learner, order=cell.order))


def _claim(out: Path) -> None:
    """Raise an error for a folder with other content.

    Raises:
        MetaMapError: it has other content.
    """
    if out.is_dir() and not (out / _CONFIG).is_file() and any(out.iterdir()):
        raise MetaMapError(f"{out}: not a benchmark; name an empty or a new folder")


def _is_finished(folder: Path, config: StreamConfig, external: ExternalSettings | None) -> bool:
    """Whether a cell is finished with these settings.

    Raises:
        MetaMapError: it was started with other settings.
    """
    finished = (folder / CELL).is_file()
    if not finished and not (folder / _MANIFEST).is_file():
        return False
    expected: dict[str, Any] = config.resolved()
    document = read_json(folder / CELL if finished else folder / _MANIFEST)
    check_environments(document.get("environments", {}), str(folder))
    found: dict[str, Any] = document["config"] if finished else _config_of(folder)
    code = made_with = None
    if external is not None:
        expected["learner"] = _recorded(external)
        code = expected["learner"].pop("files", None)
        if isinstance(found.get("learner"), dict):
            made_with = found["learner"].pop("files", code)  # missing in older cells
            found["learner"]["folder"] = _name(found["learner"].get("folder"))
    other = next((key for key in expected if expected[key] != found.get(key)), None)
    if other is not None:
        raise MetaMapError(
            f"{folder}: was made with {other} = {found.get(other)!r}, not {expected[other]!r}: name another folder, "
            "or remove this cell"
        )
    if code != made_with:
        raise MetaMapError(
            f"{folder}: the files of its learner have changed since it was made: name another folder, or remove this "
            "cell"
        )
    return finished


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
