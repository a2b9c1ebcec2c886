"""Benchmarks of learners on streams."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import log, say
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.bench.config import BenchConfig
    from metamap_rl.bench.result import CellResult
    from metamap_rl.cli.console import Progress
    from metamap_rl.stream.events import StreamEvent

__all__ = ["COMMANDS", "ORDER", "AddLearner", "CompareOrder", "FilmBench", "ListBenches", "ReplayBench", "RunBench"]

ORDER = 51


@dataclass(frozen=True, kw_only=True)
class RunBench(Command):
    """Run a benchmark: every learner on every stream, in every order, with every seed.

    Finished cells are never run again, and a stopped mapper's cell resumes after its last stage: run the same command
    again after Ctrl-C or a crash. `metamap report DIR` makes a page of the results.
    """

    name: ClassVar[str] = "run"
    if_stopped: ClassVar[str] = "finished cells and experts are kept: the same command goes on from there"

    config: Annotated[Positional[str], Metavar("BENCH")]
    """A preset (`metamap bench list`), a YAML file, or the folder of a benchmark to resume."""

    out: Annotated[Path | None, Metavar("DIR")] = None
    """Folder of the benchmark; by default that of BENCH, or runs/bench-NAME for a preset or file."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Override settings of the benchmark, such as seeds=2 'settings={update.updates: 100}'."""

    learner: Annotated[tuple[str, ...], Metavar("LEARNER")] = ()
    """Add learners: file.py:Class, an algorithm such as sac, a learner of `metamap stream list`, or NAME='{settings}';
    NAME= in front names it.
    """

    envs: Annotated[tuple[str, ...], Metavar("ID")] = ()
    """Gymnasium environments of the stream, with arguments or without: CartPole-v1 'Pendulum-v1 {g: 2}'; for the
    benchmark `environments` and others with one stream of that kind.
    """

    zoo: Annotated[Path | None, Metavar("DIR")] = None
    """Expert cache; default: in the folder."""

    dry_run: bool = False
    """Run nothing: print what is left and how long it takes, preparation included."""

    measured: Annotated[tuple[Path, ...], Metavar("DIR")] = ()
    """With --dry-run: folders of other benchmarks; the times of their finished cells count, too."""

    executor: Literal["local", "ray"] = "local"
    """Executor of cells and experts: local processes or Ray."""

    ray_address: Annotated[str | None, Metavar("ADDRESS")] = None
    """Address of a running Ray cluster; default: start a local Ray."""

    workers: int = 0
    """Number of cells to run in parallel; 0 uses all cores."""

    seed: int = 0
    """Unused: the benchmark's seeds are 0, 1, ... seeds - 1."""

    def next_command(self) -> str | None:
        """See `Command`."""
        from metamap_rl.bench.config import load_bench

        if self.dry_run:
            return None
        return f"metamap report {quote(str(self._folder(load_bench(self.config).name)))} --out report.html"

    def _folder(self, name: str) -> Path:
        """Where the benchmark goes, from its name."""
        return self.out or (Path(self.config) if Path(self.config).is_dir() else Path("runs", f"bench-{name}"))

    def run(self) -> int:
        """Run missing cells, print the headline."""
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.bench.config import load_bench
        from metamap_rl.bench.run import run_bench
        from metamap_rl.cli.console import progress

        config = load_bench(self.config, self.set, learners=self.learner, environments=self.envs)
        out = self._folder(config.name)
        if self.dry_run:
            return self._estimate(config, out)
        with (
            make_executor(self.executor, self.workers, self.ray_address) as executor,
            progress("experts", len(config.cells()), unit="cells") as bar,
        ):
            results = run_bench(
                config,
                out,
                executor,
                zoo=self.zoo,
                command=typed(),
                on_cell=_Teller(bar).cell,
                on_event=_Teller(bar).event,
            )
        _print_results(out, results, as_json=self.json)
        return 0

    def _estimate(self, config: BenchConfig, out: Path) -> int:
        from metamap_agents.runtime.executors.work import count_workers
        from metamap_rl.bench.estimate import estimate_parts, total_seconds
        from metamap_rl.cli.console import print_json, print_table, progress
        from metamap_rl.common.durations import duration

        with progress("trying", None) as bar:
            parts = estimate_parts(config, out, zoo=self.zoo, measured=self.measured, on_part=bar.describe)
        workers = count_workers(self.workers)
        seconds = total_seconds(parts, workers)
        unknown = [part.name for part in parts if part.each is None]
        if self.json:
            print_json({"parts": parts, "workers": workers, "seconds": seconds, "not_measured": unknown})
            return 0
        if not parts:
            say(f"nothing is left: {out} is finished")
            return 0
        rows = [
            (part.name, part.left, "-" if part.each is None else duration(part.each), part.source) for part in parts
        ]
        print_table(("part", "left", "each", "from"), rows, right=("left", "each"))
        besides = f" besides {len(unknown)} parts without a measurement" if unknown else ""
        say(f"\nabout {duration(seconds)} with {workers} workers{besides}")
        if unknown:
            say("`--measured DIR` counts the finished cells of another benchmark, such as `smoke`")
        return 0


@dataclass(frozen=True, kw_only=True)
class AddLearner(Command):
    """Add a learner to a benchmark: a folder with learner.yaml and a class of three methods.

    The class is tested on a small robot for a few steps, then the folder is copied into the benchmark.
    `metamap bench run DIR` runs the cells of the new learner. docs/bench.md has an example.
    """

    name: ClassVar[str] = "add"

    directory: Annotated[Positional[Path], Metavar("LEARNER")]
    """Folder of the learner."""

    to: Annotated[Path, Metavar("DIR")]
    """Folder of the benchmark."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap bench run {quote(str(self.to))}"

    def run(self) -> int:
        """Check and copy the learner."""
        from metamap_rl.bench.adding import add_learner
        from metamap_rl.cli.console import print_json

        label = add_learner(self.directory, self.to, seed=self.seed)
        if self.json:
            print_json({"learner": label, "bench": self.to})
        else:
            say(f"{label} passed and is in {self.to}")
        return 0


def _tell_written(made: Sequence[Path], *, as_json: bool) -> None:
    """Print the paths of files that were written."""
    from metamap_rl.cli.console import print_json

    if as_json:
        print_json(made)
    else:
        for path in made:
            say(path)


@dataclass(frozen=True, kw_only=True)
class FilmBench(Command):
    """Film a learner's mappers on a held-out task of each family: probe, mapping, then the policies side by side.

    The videos are written to DIR/videos, where `metamap report` finds them. Only cells of mappers can be recorded.
    """

    name: ClassVar[str] = "film"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Folder of the benchmark."""

    learner: Annotated[str, Metavar("NAME")] = "replay"
    """Name of the learner in the benchmark; its first finished cell is used."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap report {quote(str(self.directory))}"

    def run(self) -> int:
        """Record the videos."""
        from metamap_envs.opengl import choose_opengl, opengl_failure
        from metamap_rl.bench.films import film
        from metamap_rl.cli.console import note, progress

        with progress("films", None) as bar:
            choose_opengl()
            made = film(self.directory, self.learner, on_film=bar.describe)
        if made and (failure := opengl_failure()):
            note(f"the videos are flat drawings: {failure}")
        _tell_written(made, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True)
class ReplayBench(Command):
    """Record replays of a cell: on a held-out task of each family base policy, generated policy and expert.

    The recordings are written to DIR/replays, where `metamap report` finds them: its page plays them, offline. They
    need no renderer and take about 11 kB an episode and policy.
    """

    name: ClassVar[str] = "replay"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Folder of the benchmark."""

    learner: Annotated[str, Metavar("NAME")] = "replay"
    """Name of a learner in the benchmark that generates policies."""

    stream: Annotated[str | None, Metavar("NAME")] = None
    """Stream of the cell; default one cell of each stream."""

    order: int = 0
    """Order of the cell."""

    seed: int = 0
    """Seed of the cell."""

    def run(self) -> int:
        """Record them."""
        from metamap_rl.bench.replays import Choice, record
        from metamap_rl.cli.console import progress

        choice = Choice(self.learner, self.stream, self.order, self.seed)
        with progress("replays", None) as bar:
            made = record(self.directory, choice, on_replay=bar.describe)
        _tell_written(made, as_json=self.json)
        return 0

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap report {quote(str(self.directory))} --out report.html"


@dataclass(frozen=True, kw_only=True)
class CompareOrder(Command):
    """Tell whether two benchmarks put learners in the same order: Kendall's tau with its bootstrap interval.

    It is of the learners that both have; a short benchmark whose order agrees can stand for a long one.
    """

    name: ClassVar[str] = "order"

    directories: Annotated[Positional[tuple[Path, ...]], Metavar("DIR")]
    """Two folders of benchmarks, or of the tables that `metamap report --files` writes of them."""

    metric: Annotated[str, Metavar("METRIC")] = "AP_final"
    """Metric that learners are ordered by."""

    across_versions: bool = False
    """Compare results of different versions of environments."""

    out: OutPath = None
    """JSON file of the comparison; not written by default."""

    def run(self) -> int:
        """Print values and tau."""
        from metamap_agents.runtime.storage import claim_output, write_json
        from metamap_envs.errors import MetaMapError
        from metamap_rl.bench.order import agreement
        from metamap_rl.bench.report.tables import number
        from metamap_rl.cli.console import note, print_json, print_table

        if len(self.directories) != 2:
            raise MetaMapError(f"expected two folders, got {len(self.directories)}")
        if self.out is not None:
            claim_output(self.out, overwrite=True)
        found = agreement(*self.directories, self.metric, across_versions=self.across_versions)
        if self.out is not None:
            write_json(self.out, {**asdict(found), "folders": [str(folder) for folder in self.directories]})
        if self.json:
            print_json(found)
            return 0
        names = sorted(found.learners, key=lambda name: -found.learners[name][0])
        rows = [(name, *(number(self.metric, value) for value in found.learners[name])) for name in names]
        print_table(("learner", *map(str, self.directories)), rows, right=tuple(map(str, self.directories)))
        interval = "no interval: one seed" if found.low is None else f"[{found.low:.2f}, {found.high:.2f}]"
        say(f"\nKendall's tau of {self.metric} over {len(names)} learners: {found.tau:.2f} {interval}")
        if found.left_out:
            note(f"left out, since not in both or without {self.metric}: {', '.join(found.left_out)}")
        return 0


@dataclass(frozen=True, kw_only=True)
class ListBenches(Command):
    """List the bundled benchmarks."""

    name: ClassVar[str] = "list"

    def next_command(self) -> str | None:
        """See `Command`."""
        return "metamap bench run smoke"

    def run(self) -> int:
        """Print them."""
        from metamap_rl.bench.config import list_benches, load_bench
        from metamap_rl.cli.console import print_json, print_table

        configs = {name: load_bench(name) for name in list_benches()}
        if self.json:
            print_json({name: {"cells": len(found.cells()), **found.model_dump()} for name, found in configs.items()})
            return 0
        rows = [(name, len(found.cells()), found.description) for name, found in configs.items()]
        print_table(("benchmark", "cells", "what it is"), rows, right=("cells",))
        return 0


class _Teller:
    """Progress of a benchmark, as a bar or as lines."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._said = ""

    def cell(self, name: str, done: int, total: int) -> None:
        """A cell is finished."""
        self._bar.describe(f"cell {done} of {total}: {name}")
        self._bar.advance()
        if not sys.stderr.isatty():
            log(f"cell {done} of {total} finished: {name}")

    def event(self, event: StreamEvent) -> None:
        """Progress before the first cell."""
        from metamap_rl.stream.events import Activity

        if isinstance(event, Activity):
            of = f" {event.done:g} of {event.total:g}" if event.total else ""
            self._bar.describe(f"{event.what}{of}")
            if not sys.stderr.isatty() and event.what != self._said:
                self._said = event.what
                log(f"preparing: {event.what}")


def typed() -> str:
    """The command line as text."""
    return shlex.join(["metamap", *sys.argv[1:]])


def _print_results(out: Path, results: list[CellResult], *, as_json: bool) -> None:
    """The headline of a benchmark."""
    from metamap_rl.bench.report.tables import HEADLINE, in_words, text
    from metamap_rl.bench.summary import summarise
    from metamap_rl.cli.console import print_json, print_table

    summary = summarise(results)
    if as_json:
        cells = [
            {
                "stream": cell.stream,
                "learner": cell.learner,
                "order": cell.order,
                "seed": cell.seed,
                "metrics": cell.metrics,
            }
            for cell in results
        ]
        groups = [{"stream": row.stream, "learner": row.learner, "metrics": row.metrics} for row in summary.groups]
        print_json({"directory": out, "cells": cells, "summary": groups})
        return
    rows = [
        (
            group.stream,
            group.learner,
            in_words(group),
            *(" ".join(text(name, group.metrics[name])) for name in HEADLINE),
        )
        for group in summary.groups
    ]
    print_table(("stream", "learner", "seeds x orders", *HEADLINE), rows, right=HEADLINE, least=HEADLINE[:0:-1])


COMMANDS = (RunBench, AddLearner, FilmBench, ReplayBench, CompareOrder, ListBenches)
