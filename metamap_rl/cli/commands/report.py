"""A page of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Metavar, Positional

__all__ = ["COMMANDS", "ORDER", "MakeReport"]

ORDER = 52


@dataclass(frozen=True, kw_only=True)
class MakeReport(Command):
    """Make a self-contained HTML page of all finished cells and runs in some folders."""

    name: ClassVar[str] = "report"

    directories: Annotated[Positional[tuple[Path, ...]], Metavar("DIR")]
    """Folders of benchmarks, cells or runs of streams."""

    out: Annotated[Path, Metavar("FILE")] = Path("report.html")
    """The page."""

    files: OutPath = None
    """Folder for the tables as CSV, Markdown and LaTeX, and each figure as PNG and SVG; not written by default."""

    title: str | None = None
    """Heading of the page; by default the names of the folders."""

    across_versions: bool = False
    """Include results of different versions of environments, with a warning on the page."""

    def run(self) -> int:
        """Write it."""
        from metamap_agents.runtime.storage import claim_output, read_json
        from metamap_envs.errors import MetaMapError
        from metamap_rl.bench.replays import find_replays
        from metamap_rl.bench.report import write_files, write_report
        from metamap_rl.bench.report.page import find_videos
        from metamap_rl.bench.result import find_results
        from metamap_rl.bench.summary import check_versions, summarise
        from metamap_rl.cli.commands.bench import typed
        from metamap_rl.cli.console import print_json

        if not self.directories:
            raise MetaMapError("expected at least one folder with results")
        if self.out.is_dir():
            raise MetaMapError(f"{self.out}: is a folder, expected the name of a file")
        if self.out.suffix not in (".html", ".htm"):
            raise MetaMapError(f"--out: expected a name that ends in .html, got {str(self.out)!r}")
        claim_output(self.out, overwrite=True)
        if self.files is not None:
            claim_output(self.files, overwrite=True)
        cells = find_results(self.directories)
        differences = check_versions(cells)
        if differences and not self.across_versions:
            raise MetaMapError(
                f"results of different versions are not comparable ({differences[0]}); --across-versions includes them"
            )
        summary = summarise(cells)
        manifests = {folder: folder / "manifest.json" for folder in self.directories}
        commands = {
            str(folder): str(document["command"])
            for folder, path in manifests.items()
            if path.is_file() and (document := read_json(path)).get("command")
        }
        size = write_report(
            summary,
            self.out,
            title=self.title or ", ".join(folder.resolve().name for folder in self.directories),
            command=typed(),
            videos=find_videos(self.directories),
            replays=find_replays(self.directories),
            commands=commands,
            differences=differences,
        )
        written = write_files(summary, self.files) if self.files is not None else []
        if self.json:
            print_json({"out": self.out, "bytes": size, "cells": len(cells), "files": written})
        else:
            say(f"{self.out}: {len(cells)} cells, {size / 1e6:.1f} MB")
            if written:
                say(f"{self.files}: {len(written)} tables and figures")
        return 0


COMMANDS = (MakeReport,)
