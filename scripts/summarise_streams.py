"""Summarises finished benchmarks of streams: metrics of each learner, differences to a reference, and memory curves.

    metamap bench run small --set seeds=3 --out runs/small
    metamap bench run scripts/experiments/memory.yaml --out runs/memory --zoo runs/small/zoo
    python scripts/summarise_streams.py runs/small runs/memory --out docs/results/streams.json --figure docs/streams.png

A stream whose cells differ from another's in ``memory_bytes`` alone is a point of the memory curve: its share is the
budget over what a learner with unbounded memory stores of the same tasks. Differences are paired by seed and order.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _running import run_script
from metamap_agents.runtime.storage import claim_output, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import find_results
from metamap_rl.bench.summary import Estimate, Group, Summary, check_versions, estimate, refuse_versions, summarise
from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.viz.figures import save_figure
from metamap_rl.viz.labels import Name, name_ends
from metamap_rl.viz.style import COLOURS, GREY, dress, short_ticks

METRICS = ("GEN_k", "GAP_k", "AP_final", "F_last", "F_cw", "NBT", "FWT_zs", "FT_auc", "ABC", "MEM", "UPD", "ENV")
BOUNDED = ("balanced", "reservoir")
UNTRAINED = "untrained"
ENDS = 10
"""Updates at either end of a stream."""


def retention(group: Group) -> str:
    """How a learner keeps rollouts; "none" for one that is not of this library."""
    name = group.cells[0].config["learner"].get("name")
    return str(LEARNERS.get(name).retention) if name in LEARNERS.names() else "none"


def stored(summary: Summary) -> float:
    """Bytes that all rollouts take: the most that a learner with unbounded memory stores."""
    whole = {max(cell.memory_bytes) for g in summary.groups if retention(g) == "all" for cell in g.cells}
    if len(whole) != 1:
        raise MetaMapError(
            f"expected learners with unbounded memory that all store as much, found {sorted(whole) or 'none'}"
        )
    return float(whole.pop())


def interval(found: Estimate | None) -> dict[str, Any] | None:
    """An estimate as JSON; without an interval if there is a single seed."""
    if found is None:
        return None
    of = {} if found.low is None else {"low": found.low, "high": found.high}
    return {"iqm": found.value, **of, "cells": found.cells, "of": found.of}


def entry(group: Group, whole: float) -> dict[str, Any]:
    """One learner on one stream."""
    config = group.cells[0].config
    bounded = retention(group) in BOUNDED
    return {
        "stream": group.stream,
        "learner": group.learner,
        "memory_share": round(min(1.0, config["memory_bytes"] / whole), 3) if bounded else None,
        "memory": retention(group),
        "cells": len(group.cells),
        "updates": config.get("update", {}).get("updates"),
        "metrics": {name: interval(group.metrics.get(name)) for name in METRICS},
        "each": {name: list(group.values.get(name, {}).values()) for name in METRICS},
        "by_experts": by_experts(group),
        "update_seconds": update_seconds(group),
    }


def by_experts(group: Group) -> dict[str, list[float]]:
    """GEN_k after each stage against the environment steps of experts, probes and checks until then, means over cells.

    Empty for a learner that is retrained at intervals, or if held-out tasks were not evaluated after each stage.
    """
    if group.every > 1 or not group.gen.shape[1] or np.isnan(group.gen).any():
        return {}
    steps = np.array([[0, *np.cumsum(cell.environment_steps)] for cell in group.cells])
    return {"steps": steps.mean(axis=0).tolist(), "GEN_k": group.gen.mean(axis=0).tolist()}


def differences(group: Group, reference: Group) -> dict[str, Any]:
    """Metrics that both have, learner minus reference, paired by seed and order."""
    found = {}
    for name in ("GEN_k", "GAP_k", "AP_final"):
        own, other = group.values.get(name, {}), reference.values.get(name, {})
        found[name] = interval(estimate({key: own[key] - other[key] for key in own if key in other}))
    return found


def update_seconds(group: Group) -> dict[str, float]:
    """Mean wall time of an update over cells, the first and the last `ENDS` of a stream; empty for a short stream."""
    times = np.array([cell.update_seconds for cell in group.cells])
    if times.shape[1] < 2 * ENDS or group.every > 1:
        return {}
    first, last = float(times[:, :ENDS].mean()), float(times[:, -ENDS:].mean())
    return {"first": first, "last": last}


def document(summary: Summary, reference: str, whole: float | None = None) -> dict[str, Any]:
    """The whole summary.

    Args:
        summary: results of all learners.
        reference: learner that the others are compared with.
        whole: bytes of all rollouts; default what a learner with unbounded memory stores.

    Raises:
        MetaMapError: no results of the reference, or, without ``whole``, of a learner with unbounded memory.
    """
    whole = stored(summary) if whole is None else whole
    against = [group for group in summary.groups if group.learner == reference]
    if not against:
        raise MetaMapError(f"no results of learner {reference!r}; there are {', '.join(summary.learners)}")
    rows = [{**entry(group, whole), "minus_reference": differences(group, against[0])} for group in summary.groups]
    first = summary.cells[0]
    return {
        "reference": reference,
        "stored_bytes": whole,
        "tasks": len(first.tasks),
        "held_out": len(first.held_out),
        "families": list(summary.families),
        "updates": first.config.get("update", {}).get("updates"),
        "map_steps": first.map_steps,
        "seeds": sorted({cell.seed for cell in summary.cells}),
        "rows": rows,
        "machine": first.machine,
        "versions": first.versions,
        "environments": first.environments,
    }


# figure ---------------------------------------------------------------------------------------------------------------


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of learners that were measured with several budgets, by learner, smallest budget first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["memory_share"] is not None:
            found.setdefault(row["learner"], []).append(row)
    return {name: sorted(of, key=lambda row: row["memory_share"]) for name, of in found.items() if len(of) > 1}


def draw(found: Mapping[str, Any]) -> Figure:
    """Three panels: score on held-out tasks and on seen tasks against memory, and against steps of experts."""
    figure = Figure(figsize=(11, 3.4))
    held_out, seen, steps = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.06, right=0.93, bottom=0.16, top=0.9, wspace=0.65)
    draw_memory(held_out, found, "GEN_k", "New tasks: how much memory is needed?")
    draw_memory(seen, found, "AP_final", "Seen tasks: how much memory is needed?")
    draw_steps(steps, found)
    return figure


def draw_memory(axes: Axes, found: Mapping[str, Any], metric: str, title: str) -> None:
    """A metric against the share of what would be stored; the unbounded reference and phi_0 as lines."""
    names = []
    for (name, rows), colour in zip(curves(found["rows"]).items(), COLOURS, strict=False):
        x = [100 * row["memory_share"] for row in rows]
        entries = [row["metrics"][metric] for row in rows]
        y = [one["iqm"] for one in entries]
        axes.plot(x, y, color=colour, marker="o", ms=4)
        if all("low" in one for one in entries):
            low, high = [one["low"] for one in entries], [one["high"] for one in entries]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        names.append(Name(name, y[-1], colour))
    for row in found["rows"]:
        if row["learner"] in (found["reference"], UNTRAINED) and row["metrics"][metric]:
            level = row["metrics"][metric]["iqm"]
            axes.axhline(level, color=GREY, lw=1, ls="--")
            names.append(Name({UNTRAINED: "base policy"}.get(row["learner"], row["learner"]), level, GREY))
    axes.set(xlabel="memory, % of all rollouts", ylabel=f"{metric}, score", xticks=(10, 25, 50, 100))
    _finish(axes, title, names)


def draw_steps(axes: Axes, found: Mapping[str, Any]) -> None:
    """Score on held-out tasks against environment steps, of the learners of the memory curve at about a quarter."""
    names, share = [], 1.0
    for (name, rows), colour in zip(curves(found["rows"]).items(), COLOURS, strict=False):
        row = min(rows, key=lambda row: abs(row["memory_share"] - 0.25))
        if row["by_experts"]:
            x, y = np.array(row["by_experts"]["steps"]) / 1e6, row["by_experts"]["GEN_k"]
            axes.plot(x, y, color=colour)
            names.append(Name(name, y[-1], colour))
            share = row["memory_share"]
    axes.set(xlabel=f"environment steps, millions (memory {100 * share:.0f} %)", ylabel="GEN_k, score")
    short_ticks(axes.xaxis)
    _finish(axes, "New tasks: what do experts cost?", names)


def _finish(axes: Axes, title: str, names: Sequence[Name]) -> None:
    axes.set_title(title, loc="left", fontsize=9)
    short_ticks(axes.yaxis)
    dress(axes)
    name_ends(axes, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="benchmarks with the same tasks")
    parser.add_argument("--reference", default="joint", help="learner that the others are compared with")
    parser.add_argument("--stored-bytes", type=int, help="of all rollouts, where no learner has unbounded memory")
    parser.add_argument("--out", type=Path, required=True, help="JSON document")
    parser.add_argument("--figure", type=Path, help="picture, .png or .svg")
    arguments = parser.parse_args()
    claim_output(arguments.out, overwrite=True)
    summary = summarise(find_results(arguments.folders))
    refuse_versions(check_versions(summary.cells), across_versions=False)
    found = document(summary, arguments.reference, arguments.stored_bytes)
    write_json(arguments.out, found)
    if arguments.figure is not None:
        save_figure(draw(found), arguments.figure)


if __name__ == "__main__":
    run_script(main)
