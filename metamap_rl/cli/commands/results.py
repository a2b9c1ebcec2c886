"""The project's own measurements: run them again, print their tables, render the tables of pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say, say_document
from metamap_rl.cli.usage import Metavar, Positional

__all__ = ["COMMANDS", "ORDER", "ListExperiments", "PrintTable", "Render", "RunExperiment"]

ORDER = 70


@dataclass(frozen=True, kw_only=True)
class ListExperiments(Command):
    """List the experiments that `metamap results run` knows; `--json` has their settings."""

    name: ClassVar[str] = "list"

    def run(self) -> int:
        """Print them."""
        from metamap_rl.cli.console import print_json, print_table
        from metamap_rl.cli.outline import first_line
        from metamap_rl.results.experiments import EXPERIMENTS

        kinds = {name: EXPERIMENTS.get(name) for name in EXPERIMENTS.names()}
        rows = [(name, first_line(kind.__doc__), ", ".join(kind.model_fields)) for name, kind in kinds.items()]
        if self.json:
            print_json(
                [{"name": name, "help": text, "settings": settings.split(", ")} for name, text, settings in rows]
            )
        else:
            print_table(("experiment", "what it measures"), [row[:2] for row in rows])
        return 0


@dataclass(frozen=True, kw_only=True)
class RunExperiment(Command):
    """Run the cells of an experiment that are not done yet; write its document and print its table.

    Every finished cell is a file in the run's directory, so the same command goes on where a run was stopped. The
    document is EXPERIMENT.json in that directory; it is what docs/results keeps.
    """

    name: ClassVar[str] = "run"
    if_stopped: ClassVar[str] = "finished cells are kept, the same command goes on from there"

    experiment: Annotated[Positional[str], Metavar("EXPERIMENT")]
    """One of `metamap results list`."""

    config: Annotated[Positional[Path | None], Metavar("CONFIG")] = None
    """A YAML file of settings."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Settings in place of the config's; values are YAML."""

    out: Annotated[Path | None, Metavar("DIR")] = None
    """The run's directory; default runs/EXPERIMENT."""

    workers: Annotated[int, Metavar("N")] = 0
    """Cells at a time; 0 takes all cores."""

    executor: Literal["local", "ray"] = "local"
    """Where cells run: processes on this machine, or Ray."""

    ray_address: Annotated[str | None, Metavar("ADDRESS")] = None
    """Address of a Ray cluster that is there; without it Ray starts here."""

    def run(self) -> int:
        """Run what is missing."""
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.cli.console import progress
        from metamap_rl.results.experiments import make_experiment, run_experiment

        experiment = make_experiment(self.experiment, self.config, self.set)
        out = self.out or Path("runs", self.experiment)
        with (
            make_executor(self.executor, self.workers, self.ray_address) as executor,
            progress(f"running {self.experiment}", None, unit="cells") as bar,
        ):

            def on_cell(name: str, done: int, total: int) -> None:
                bar.advance()
                bar.describe(f"{done} of {total} cells so far; {name}")

            run_experiment(self.experiment, experiment, out, executor, on_cell)
        return _summarised(out, self.json)


@dataclass(frozen=True, kw_only=True)
class PrintTable(Command):
    """Print the table of an experiment from the finished cells of its run, and write its document.

    The directories are one run of `metamap results run`, or runs of `metamap evaluate`: these may hold different
    families, and --out is where their documents and figures go, those of docs/results/protocol. A folder of such
    documents is summarised anew.
    """

    name: ClassVar[str] = "table"

    directories: Annotated[Positional[tuple[Path, ...]], Metavar("DIR")]
    """Runs."""

    out: Annotated[Path | None, Metavar("FOLDER")] = None
    """Where the documents of runs of `metamap evaluate` go."""

    def run(self) -> int:
        """Print it."""
        from metamap_envs.errors import MetaMapError

        first, *others = self.directories
        if (first / "experiment.json").is_file():
            if others or self.out is not None:
                raise MetaMapError(f"{first} is the run of an experiment: expected no other directory and no --out")
            return _summarised(first, self.json)
        from metamap_rl.cli.console import print_json
        from metamap_rl.evaluation.protocol.results import publish
        from metamap_rl.evaluation.protocol_tables import results_text

        summary = publish(self.directories, self.out)
        if self.json:
            print_json(summary)
        else:
            say_document(results_text(summary))
        return 0


@dataclass(frozen=True, kw_only=True)
class Render(Command):
    """Bring the tables of pages up to date with the documents of results, or check that they are."""

    name: ClassVar[str] = "render"

    pages: Annotated[Positional[tuple[Path, ...]], Metavar("PAGE")] = ()
    """Markdown files to check."""

    into: Annotated[tuple[Path, ...], Metavar("PAGE")] = ()
    """Markdown files to bring up to date."""

    check: bool = False
    """Write nothing; exit code 1 where a page differs from its documents."""

    results: Annotated[Path, Metavar("FOLDER")] = Path("docs/results")
    """Folder of the documents."""

    def run(self) -> int:
        """Write or compare the pages."""
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.console import note, print_json
        from metamap_rl.results.render import render

        pages = (*self.pages, *self.into)
        if not pages or (self.pages and not self.check):
            raise MetaMapError("expected pages: --into PAGE ... brings them up to date, --check PAGE ... compares them")
        changed = render(pages, self.results, check=self.check)
        if self.json:
            print_json([str(page) for page in changed])
        for page in changed if not self.json else []:
            if self.check:
                note(f"{page}: its tables are not those of {self.results}: `metamap results render --into {page}`")
            else:
                say(f"{page} was brought up to date")
        return int(self.check and bool(changed))


def _summarised(out: Path, as_json: bool) -> int:
    """Write the document of a run, its figures, and print it."""
    from metamap_rl.cli.console import print_json
    from metamap_rl.results.experiments import summarise_run

    document: dict[str, Any]
    path, document, lines = summarise_run(out)
    if as_json:
        print_json(document)
    else:
        say("\n".join(lines))
        say(f"\nthe document is {path}")
    return 0


COMMANDS = (ListExperiments, RunExperiment, PrintTable, Render)
