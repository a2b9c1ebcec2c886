"""Benchmarks: learners on streams, ours and yours, cell by cell."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.bench.config import Cell
    from metamap_rl.bench.result import CellResult
    from metamap_rl.cli.console import Progress
    from metamap_rl.stream.events import StreamEvent

__all__ = ["COMMANDS", "ORDER", "AddLearner", "FilmBench", "ListBenches", "RunBench"]

ORDER = 50


@dataclass(frozen=True, kw_only=True)
class RunBench(Command):
    """Run a benchmark: every learner on every stream, in every order, with every seed.

    A finished cell is never run again, and a mapper's cell that was stopped goes on after its last stage: the same
    command goes on after Ctrl-C or a crash. `metamap report DIR` makes a page of the results.
    """

    name: ClassVar[str] = "run"
    if_stopped: ClassVar[str] = "finished cells and experts are kept: the same command goes on from there"

    config: Annotated[Positional[str], Metavar("BENCH")]
    """A preset as in `metamap bench list`, a YAML file, or the folder of a benchmark, to run what is missing in it."""

    out: Annotated[Path | None, Metavar("DIR")] = None
    """Folder of the benchmark; by default that of BENCH, or runs/bench-NAME for a preset or file."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Other values than the benchmark's, such as seeds=2 'settings={update.updates: 100}'."""

    zoo: Annotated[Path | None, Metavar("DIR")] = None
    """Another expert cache than the folder's own."""

    executor: Literal["local", "ray"] = "local"
    """Where cells and experts run: processes on this machine, or Ray."""

    ray_address: Annotated[str | None, Metavar("ADDRESS")] = None
    """Address of a Ray cluster that is there; without it Ray starts here."""

    workers: int = 0
    """Cells at a time; 0 takes all cores."""

    seed: int = 0
    """Not used: the benchmark's seeds are 0, 1, ... seeds - 1."""

    def run(self) -> int:
        """Run what is missing, print the headline."""
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.bench.config import load_bench
        from metamap_rl.bench.run import run_bench
        from metamap_rl.cli.console import progress

        config = load_bench(self.config, self.set)
        out = self.out or (Path(self.config) if Path(self.config).is_dir() else Path("runs", f"bench-{config.name}"))
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


@dataclass(frozen=True, kw_only=True)
class AddLearner(Command):
    """Add your own learner to a benchmark: a folder with learner.yaml and a class of three methods.

    The class is tried on a small robot for a few steps first. Then the folder is copied into the benchmark, and
    `metamap bench run DIR` runs the cells of the new learner. docs/bench.md has an example.
    """

    name: ClassVar[str] = "add"

    directory: Annotated[Positional[Path], Metavar("LEARNER")]
    """Folder of the learner."""

    to: Annotated[Path, Metavar("DIR")]
    """Folder of the benchmark."""

    def run(self) -> int:
        """Check and copy it."""
        from metamap_rl.bench.adding import add_learner
        from metamap_rl.cli.console import print_json

        label = add_learner(self.directory, self.to, seed=self.seed)
        if self.json:
            print_json({"learner": label, "bench": self.to})
        else:
            say(f"{label} passed and is in {self.to}; `metamap bench run {self.to}` runs its cells")
        return 0


@dataclass(frozen=True, kw_only=True)
class FilmBench(Command):
    """Film what a learner has learnt: for each family the base policy beside the generated one, on a held-out task.

    The films go to DIR/videos, where `metamap report` finds them. Only cells of the mapper can be filmed.
    """

    name: ClassVar[str] = "film"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Folder of the benchmark."""

    learner: Annotated[str, Metavar("NAME")] = "replay"
    """Which learner, as the benchmark calls it; its first finished cell is taken."""

    def run(self) -> int:
        """Make the films."""
        from metamap_envs.opengl import choose_opengl, opengl_failure
        from metamap_rl.bench.films import film
        from metamap_rl.cli.console import note, print_json, progress

        with progress("films", None) as bar:
            choose_opengl()
            made = film(self.directory, self.learner, on_film=bar.describe)
        if made and (failure := opengl_failure()):
            note(f"the films are flat drawings: {failure}")
        if self.json:
            print_json(made)
        else:
            for path in made:
                say(path)
        return 0


@dataclass(frozen=True, kw_only=True)
class ListBenches(Command):
    """List the benchmarks that come along."""

    name: ClassVar[str] = "list"

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
    """Says how a benchmark comes on: on the bar, or as lines where there is none."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._said = ""

    def cell(self, cell: Cell, done: int, total: int) -> None:
        """A cell is finished."""
        from metamap_rl.cli.console import note

        self._bar.describe(f"cell {done} of {total}: {cell.name}")
        self._bar.advance()
        if not sys.stderr.isatty():
            note(f"cell {done} of {total} finished: {cell.name}")

    def event(self, event: StreamEvent) -> None:
        """Something goes on before the first cell."""
        from metamap_rl.cli.console import note
        from metamap_rl.stream.events import Doing

        if isinstance(event, Doing):
            of = f" {event.done:g} of {event.total:g}" if event.total else ""
            self._bar.describe(f"{event.what}{of}")
            if not sys.stderr.isatty() and event.what != self._said:
                self._said = event.what
                note(f"preparing: {event.what}")


def typed() -> str:
    """The command line, as it may be typed again."""
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
    say(f"\n`metamap report {out} --out report.html` makes a page of it")


COMMANDS = (RunBench, AddLearner, FilmBench, ListBenches)
