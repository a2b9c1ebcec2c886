"""Cells of benchmarks and runs of streams in some folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say, say_document
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.bench.summary import Estimate

__all__ = ["COMMANDS", "ORDER", "CompareRuns", "ListRuns", "ShowRun"]

ORDER = 53


@dataclass(frozen=True, kw_only=True)
class ListRuns(Command):
    """List the cells of benchmarks and the runs of streams below some folders, finished or not."""

    name: ClassVar[str] = "list"

    directories: Annotated[Positional[tuple[Path, ...]], Metavar("DIR")] = (Path("runs"),)
    """Folders to search."""

    def run(self) -> int:
        """Print them."""
        from metamap_rl.bench.listing import list_runs
        from metamap_rl.cli.console import print_json, print_table

        found = list_runs(self.directories)
        if self.json:
            print_json(found)
            return 0
        if not found:
            say(f"no cells of benchmarks and no runs of streams below {', '.join(map(str, self.directories))}")
            return 0
        rows = [
            (
                run.place,
                run.stream,
                run.learner,
                run.seed,
                f"{run.done} of {run.total}",
                "-" if run.ap_final is None else f"{run.ap_final:.3f}",
            )
            for run in found
        ]
        print_table(
            ("run", "stream", "learner", "seed", "stages", "AP_final"),
            rows,
            right=("seed", "AP_final"),
            least=("stages",),
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class ShowRun(Command):
    """Show a finished run: metrics with formulas, versions, environments, config."""

    name: ClassVar[str] = "show"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Folder of a cell or of a run of a stream."""

    def run(self) -> int:
        """Print it."""
        from metamap_envs.yaml_text import dump_yaml
        from metamap_rl.bench.listing import one_result
        from metamap_rl.bench.report.tables import METRIC_NAMES, number
        from metamap_rl.cli.console import print_json, print_table
        from metamap_rl.stream.metrics import FORMULAS

        cell = one_result(self.directory)
        metrics = cell.metrics
        if self.json:
            print_json({"metrics": metrics, "cell": cell})
            return 0
        say(f"{self.directory}: learner {cell.learner} on stream {cell.stream}, order {cell.order}, seed {cell.seed}\n")
        rows = [
            (name, "-" if (value := metrics.get(name)) is None else number(name, value), FORMULAS[name])
            for name in METRIC_NAMES
        ]
        print_table(("metric", "value", "formula"), rows, right=("value",))
        for heading, found in (("environments", cell.environments), ("versions", cell.versions)):
            say(f"\n{heading}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
        say_document("\n" + dump_yaml(cell.config))
        return 0


@dataclass(frozen=True, kw_only=True)
class CompareRuns(Command):
    """Compare results side by side: each folder is a column, the mean over the cells in it.

    The difference to the first is over cells that both have (same stream, order and seed), with a 95 % bootstrap
    interval over seeds where there are several.
    """

    name: ClassVar[str] = "compare"

    directories: Annotated[Positional[tuple[Path, ...]], Metavar("DIR")]
    """Two or more folders of cells or runs."""

    across_versions: bool = False
    """Compare results of different versions of environments."""

    def run(self) -> int:
        """Print the table."""
        from metamap_rl.bench.listing import compare_runs
        from metamap_rl.bench.report.tables import METRIC_NAMES, text
        from metamap_rl.cli.console import note, print_json, print_table

        found = compare_runs(self.directories, across_versions=self.across_versions)
        for sentence in found.differences:
            note(f"versions differ: {sentence}")
        if self.json:
            print_json(found)
            return 0

        def words(name: str, estimate: Estimate | None) -> str:
            return " ".join(text(name, estimate)).strip()

        others = list(found.columns)[1:]
        columns = ("metric", *found.columns, *(f"{name} - first" for name in others))
        rows = []
        for name in METRIC_NAMES:
            values = [words(name, column.get(name)) for column in found.columns.values()]
            changes = [words(name, found.changes[other].get(name)) for other in others]
            if any(value != "–" for value in values):
                rows.append((name, *values, *changes))
        print_table(columns, rows, right=columns[1:])
        return 0


COMMANDS = (ListRuns, ShowRun, CompareRuns)
