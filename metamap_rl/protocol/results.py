"""Files of a run's results: ``results.json``, ``results.md`` and figures."""

from __future__ import annotations

from typing import Any

from metamap_agents.storage import write_bytes, write_json
from metamap_rl.figures import FORMATS, save_figure
from metamap_rl.protocol.figures import plot_family, plot_pooled
from metamap_rl.protocol.record import RunRecord
from metamap_rl.protocol.report import summarise_run
from metamap_rl.protocol.tables import family_tables, learning_table, methods_table, pooled_table

__all__ = ["markdown", "write_results"]

RESULTS_FILE = "results.json"
TABLES_FILE = "results.md"


def write_results(run: RunRecord) -> tuple[dict[str, Any], str]:
    """Write the results of all finished cells into the run's directory; gives numbers and Markdown."""
    summary = summarise_run(run)
    write_json(run.root / RESULTS_FILE, summary)
    text = markdown(summary)
    write_bytes(run.root / TABLES_FILE, text.encode())
    for suffix in FORMATS:
        for name, entry in summary["families"].items():
            if "test-in" in entry["splits"]:
                figure = plot_family(name, entry, summary["headline_steps"])
                save_figure(figure, run.root / "figures" / f"{name}{suffix}")
        if summary["pooled"]:
            save_figure(plot_pooled(summary["pooled"], summary["headline_steps"]), run.root / f"figures/all{suffix}")
    return summary, text


def markdown(summary: dict[str, Any]) -> str:
    """All tables."""
    steps, families = summary["headline_steps"], summary["families"]
    names = list(dict.fromkeys(name for entry in families.values() for name in entry["training_steps"]))
    parts = [methods_table(names)]
    parts += [pooled_table(summary["pooled"], steps)] if summary["pooled"] else []
    parts += [family_tables(name, entry, steps) for name, entry in families.items()]
    parts += [learning_table(families)]
    return "\n".join("\n".join(part).rstrip() + "\n" for part in parts if part)
