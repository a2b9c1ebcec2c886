"""Result files of runs: numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json, write_bytes, write_json
from metamap_rl.evaluation.protocol.figures import plot_family, plot_pooled
from metamap_rl.evaluation.protocol.methods import METHODS
from metamap_rl.evaluation.protocol.record import RunRecord, open_run
from metamap_rl.evaluation.protocol.report import summarise_again, summarise_runs
from metamap_rl.evaluation.protocol_tables import methods_table, results_text
from metamap_rl.evaluation.scores import method_name
from metamap_rl.viz.figures import FORMATS, save_figure

__all__ = ["publish", "write_results"]

RESULTS_FILE = "results.json"
TABLES_FILE = "results.md"


def write_results(run: RunRecord) -> tuple[dict[str, Any], str]:
    """Write the results of all finished cells to the run's directory; returns the summary and Markdown."""
    summary = summarise_runs([run])
    write_json(run.root / RESULTS_FILE, summary)
    figures = _draw(summary, run.root / "figures")
    methods = {
        name: METHODS.get(method_name(name))
        for entry in summary["families"].values()
        for name in entry["training_steps"]
    }
    text = results_text(summary, [path.relative_to(run.root) for path in figures])
    text = "\n".join([text, "## Methods", "", *methods_table(methods), ""])
    write_bytes(run.root / TABLES_FILE, text.encode())
    return summary, text


def _draw(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Plot every family with test-in tasks, and all families together, as PNG and SVG; returns the PNG files."""
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


def publish(places: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """Summarise runs of different families, or, anew, a folder of documents that this has written before.

    Args:
        places: the runs' directories, or the folder.
        out: folder for documents (one per family, and a shared one) and figures; None writes none.

    Raises:
        MetaMapError: runs of different settings, or something else.
    """
    if len(places) == 1 and (places[0] / "shared.json").is_file():
        documents = {path.stem: read_json(path) for path in sorted(places[0].glob("*.json"))}
        shared = documents.pop("shared")
        summary = summarise_again({name: documents[name] for name in shared["zoos"]}, shared)
    else:
        summary = summarise_runs([open_run(place) for place in places])
    if out is not None:
        shared = {key: value for key, value in summary.items() if key != "families"}
        for name, document in {**summary["families"], "shared": shared}.items():
            write_json(out / f"{name}.json", document)
        _draw(summary, out)
    return summary
