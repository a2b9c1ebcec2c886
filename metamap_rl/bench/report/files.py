"""Tables and figures of a report as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metamap_agents.runtime.storage import write_bytes
from metamap_rl.bench.report.drawing import ReportFigure, as_png, as_svg
from metamap_rl.bench.report.figures import draw_families, draw_stream
from metamap_rl.bench.report.tables import cells_csv, latex, markdown, summary_csv
from metamap_rl.bench.summary import Summary

__all__ = ["draw_all", "write_files"]

_TABLES: dict[str, Callable[[Summary], str]] = {
    "cells.csv": cells_csv,
    "summary.csv": summary_csv,
    "summary.md": markdown,
    "summary.tex": latex,
}


def draw_all(summary: Summary) -> list[ReportFigure]:
    """Draw all figures, stream by stream."""
    found: list[ReportFigure] = []
    for stream in summary.streams:
        groups = summary.of_stream(stream)
        found += draw_stream(groups, summary.learners)
        families = [draw_families(groups, summary.learners, family) for family in summary.families]
        found += [drawn for drawn in families if drawn is not None]
    return found


def write_files(summary: Summary, folder: Path) -> list[Path]:
    """Write the tables as CSV, Markdown and LaTeX, and each figure as PNG and SVG; returns the files.

    Raises:
        MetaMapError: a file cannot be written.
    """
    written = []
    for name, make in _TABLES.items():
        write_bytes(folder / name, make(summary).encode())
        written.append(folder / name)
    for drawn in draw_all(summary):
        for suffix, content in ((".png", as_png(drawn)), (".svg", as_svg(drawn))):
            write_bytes(folder / f"{drawn.name}{suffix}", content)
            written.append(folder / f"{drawn.name}{suffix}")
    return written
