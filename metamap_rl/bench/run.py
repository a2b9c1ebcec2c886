"""Run a benchmark: all unfinished cells, in parallel.

::

    bench.yaml                          the benchmark, with all settings
    manifest.json                       versions, machine, command
    zoo/                                the expert cache of all cells
    learners/<name>/                    users' learners, copied by `metamap bench add`
    tuning/<stream>/                    cells of tuning, if settings are tuned
    cells/<stream>/<learner>-order0-seed0/
        cell.json                       the result; marks a finished cell
        ...                             a run directory of `metamap stream run`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, write_bytes, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.bench.adding import adopt_files
from metamap_rl.bench.config import CONFIG, BenchCell, BenchConfig, bench_to_yaml
from metamap_rl.bench.entry import ExternalSettings
from metamap_rl.bench.environment_course import prepare_references
from metamap_rl.bench.environments import EnvironmentStreamConfig
from metamap_rl.bench.external import check_external
from metamap_rl.bench.result import CellResult, read_cell
from metamap_rl.bench.shorthands import is_file_entry
from metamap_rl.bench.work import MANIFEST, BenchWork, Choices, TuningWork
from metamap_rl.bench.worlds import FamilyWorld, GymWorld, World
from metamap_rl.common.cells import Cell, OnCell, run_cells
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.events import Activity, OnStream
from metamap_rl.stream.plan import StreamPlan

__all__ = ["run_bench"]

_ZOO = "zoo"


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
    config = adopt_files(config, out, _all_kinds_of_worlds(config))
    cache = out / _ZOO if zoo is None else zoo.resolve()
    work: BenchWork = BenchWork(config, cache)
    if config.tuning is None:
        (cells,) = work.batches(out)
        left = [cell for cell in cells if not work.is_done(cell)]
        _check_learners(left)
    else:
        _check_learners(TuningWork(config, cache).batches(out)[0])
    write_bytes(out / CONFIG, bench_to_yaml(config).encode())
    about = {"versions": library_versions(), "machine": describe_machine(torch_threads=1)}
    write_json(out / MANIFEST, {**about, "command": command, "name": config.name})
    if config.tuning is not None:
        work = BenchWork(config, cache, _tune(TuningWork(config, cache), out, executor, on_event))
        (cells,) = work.batches(out)
        left = [cell for cell in cells if not work.is_done(cell)]
    for number, cell in enumerate((cell for cell in cells if cell not in left), start=1):
        on_cell(cell.name, number, len(cells))
    for stream in {(cell.job[0].stream, cell.job[0].seed): cell.job[1] for cell in left}.values():
        _prepare(stream, work.zoo, executor, on_event)  # all orders have the same tasks
    run_cells(work, out, executor, on_cell)
    return [read_cell(cell.path.parent) for cell in cells]


def _tune(work: TuningWork, out: Path, executor: Executor, on_event: OnStream | None) -> Choices:
    """Run the cells of tuning that are missing; choose the settings of each learner on each stream."""
    (cells,) = work.batches(out)
    left = [cell for cell in cells if not work.is_done(cell)]
    for config in {(cell.job[0].stream, cell.job[0].seed): cell.job[1] for cell in left}.values():
        _prepare(config, work.zoo, executor, on_event)
    say: OnStream = on_event if on_event is not None else lambda event: None
    run_cells(work, out, executor, lambda _, done, total: say(Activity("tuning", done, total)))
    return work.choices(out)


def _prepare(
    config: StreamConfig | EnvironmentStreamConfig, zoo: Path, executor: Executor, on_event: OnStream | None
) -> None:
    """Make what the cells of a stream share: experts, or the references of environments."""
    if isinstance(config, StreamConfig):
        StreamPlan.of(config, zoo).prepare(executor, on_event=on_event)
        return
    say: OnStream = on_event if on_event is not None else lambda event: None
    prepare_references(config, zoo, executor, lambda _, done, total: say(Activity("references", done, total)))


def _check_learners(cells: Sequence[Cell]) -> None:
    """Construct the external learners, to find errors before anything is trained.

    Raises:
        MetaMapError: one cannot be constructed, or would not learn.
    """
    checked: list[tuple[str, ExternalSettings]] = []  # candidates of tuning differ in their settings
    for cell, config, external, _ in (cell.job for cell in cells):
        if external is None or (cell.stream, external) in checked:
            continue
        checked.append((cell.stream, external))
        worlds = _kinds_of_worlds(config)
        try:
            check_external(external, worlds)
        except MetaMapError as error:
            raise MetaMapError(f"learner {cell.learner!r}: {error}") from None


def _all_kinds_of_worlds(config: BenchConfig) -> list[World]:
    """Those of all streams, if a learner is one file."""
    if not any(is_file_entry(settings) for settings in config.learners.values()):
        return []
    label = next(name for name, settings in config.learners.items() if is_file_entry(settings))
    cells = [BenchCell(stream, label, 0, 0) for stream in config.streams]
    return [world for cell in cells for world in _kinds_of_worlds(config.cell_config(cell))]


def _kinds_of_worlds(config: StreamConfig | EnvironmentStreamConfig) -> list[World]:
    """A world of each pair of spaces.

    Raises:
        MetaMapError: an environment cannot be made.
    """
    if isinstance(config, StreamConfig):
        names = {get_family(name).embodiment: name for name in config.stream.family_names}
        return [FamilyWorld(get_family(name).task()) for name in names.values()]
    config.stream.check_spaces()
    found: list[World] = []
    for world in config.stream.choices():
        if all(world.spaces != other.spaces for other in found if isinstance(other, GymWorld)):
            found.append(world)
    return found


def _claim(out: Path) -> None:
    """Raise an error for a folder with other content.

    Raises:
        MetaMapError: it has other content.
    """
    if out.is_dir() and not (out / CONFIG).is_file() and any(out.iterdir()):
        raise MetaMapError(f"{out}: not a benchmark; name an empty or a new folder")
