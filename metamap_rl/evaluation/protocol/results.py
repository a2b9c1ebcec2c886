"""Files of the results of runs: numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import write_bytes, write_json
from metamap_rl.evaluation.protocol.figures import plot_family, plot_pooled
from metamap_rl.evaluation.protocol.record import RunRecord
from metamap_rl.evaluation.protocol.report import summarise_runs
from metamap_rl.evaluation.protocol.tables import (
    family_tables,
    headline_table,
    learning_table,
    methods_table,
    pooled_table,
)
from metamap_rl.viz.figures import FORMATS, save_figure

__all__ = ["draw", "markdown", "write_results"]

RESULTS_FILE = "results.json"
TABLES_FILE = "results.md"


def write_results(run: RunRecord) -> tuple[dict[str, Any], str]:
    """Write the results of all finished cells into the run's directory; gives numbers and Markdown."""
    summary = summarise_runs([run])
    write_json(run.root / RESULTS_FILE, summary)
    figures = draw(summary, run.root / "figures")
    text = markdown(summary, [path.relative_to(run.root) for path in figures])
    write_bytes(run.root / TABLES_FILE, text.encode())
    return summary, text


def draw(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw every family with test-in tasks, and all of them together, as PNG and SVG; gives the PNG files."""
    steps = summary["headline_steps"]
    figures = {
        name: plot_family(name, entry, steps)
        for name, entry in summary["families"].items()
        if "test-in" in entry["splits"]
    }
    if any(row["normalised"] for row in summary["pooled"]):
        figures = {"all": plot_pooled(summary["pooled"], steps), **figures}
    for name, figure in figures.items():
        for suffix in FORMATS:
            save_figure(figure, folder / f"{name}{suffix}")
    return [folder / f"{name}{FORMATS[0]}" for name in figures]


def markdown(summary: dict[str, Any], figures: Sequence[Path] = ()) -> str:
    """All tables, each family's after its figure (a path relative to where the text goes)."""
    steps, families = summary["headline_steps"], summary["families"]
    shown = {path.stem: f"![{path.stem}]({path.as_posix()})" for path in figures}
    names = list(dict.fromkeys(name for entry in families.values() for name in entry["training_steps"]))
    parts = [["## In short", "", *headline_table(families, steps)]]
    if summary["pooled"]:
        parts.append(["## All families", "", *_figure(shown, "all"), *pooled_table(summary["pooled"], steps)])
    for name, entry in families.items():
        parts.append([f"## {name}", "", *_figure(shown, name), *family_tables(name, entry, steps)])
    learning = learning_table(families)
    parts += [["## Adaptation against learning", "", *learning]] if learning else []
    parts.append(["## Methods", "", *methods_table(names)])
    return "\n".join("\n".join(part).rstrip() + "\n" for part in parts)


def _figure(shown: dict[str, str], name: str) -> list[str]:
    return [shown[name], ""] if name in shown else []
