"""Figures of a run: curves over lengths of D, performance profiles, adaptation against learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metamap_envs.errors import MetaMapError
from metamap_rl.common.statistics import iqm
from metamap_rl.evaluation.protocol.report import THRESHOLDS, curve_over_tasks
from metamap_rl.evaluation.scores import method_name

__all__ = ["plot_family", "plot_pooled"]

_STYLES: dict[str, tuple[str, str]] = {
    "mapper": ("#0b6fb8", "o"),
    "context-policy": ("#e08214", "s"),
    "wide-context-policy": ("#b35806", "D"),
    "nearest-expert": ("#6a51a3", "^"),
    "likeliest-expert": ("#9e9ac8", "^"),
    "estimate": ("#17becf", "h"),
    "sysid": ("#000000", "*"),
    "student": ("#a6761d", "p"),
    "wide-student": ("#e6ab02", "8"),
    "maml": ("#d6336c", "v"),
    "reptile": ("#f783ac", "<"),
    "fine-tuning": ("#495057", "x"),
    "rl2": ("#2b8a3e", "P"),
    "shuffled": ("#adb5bd", "."),
    "privileged-mapper": ("#12b886", "none"),
    "universal-policy": ("#5c940d", "none"),
    "mean-expert": ("#868e96", "none"),
}
_STARTS = {"phi-0": "#495057", "scratch": "#c92a2a", "phi-hat": "#74b3e0"}
_DASHES = ("-", "--", ":")
_PANEL = (4.6, 3.6)  # inches
_LOWEST = -0.6
_FIRST_STEP = 10.0  # position of 0 on a logarithmic axis


def plot_family(title: str, entry: Mapping[str, Any], steps: int) -> Figure:
    """Plot one family of `protocol.report.summarise_runs`: test-in tasks, and learning if measured.

    Args:
        title: title of the figure.
        entry: summary of the family.
        steps: length k of D of the performance profile.

    Raises:
        MetaMapError: no test-in tasks.
    """
    if "test-in" not in entry["splits"]:
        raise MetaMapError(f"{title}: there are no test-in tasks to plot")
    summary, learning = entry["splits"]["test-in"], entry.get("learning")
    count = 3 if learning else 2
    figure = Figure(figsize=(_PANEL[0] * count, _PANEL[1] + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count)
    _curves(panels[0], summary)
    _profiles(panels[1], [row for row in summary["methods"] if "profile" in row], steps)
    if learning:
        _learning(panels[2], learning)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    handles = {text: line for axes in panels[:2] for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    handles = {name: handles[name] for name in sorted(handles, key=lambda name: name != "mapper")}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def plot_pooled(rows: Sequence[Mapping[str, Any]], steps: int) -> Figure:
    """Plot `protocol.report.pooled`: the profile over all families, and normalised scores with intervals.

    Raises:
        MetaMapError: no rows.
    """
    rows = [row for row in rows if row["normalised"]]
    if not rows:
        raise MetaMapError("there is nothing to plot over several families")
    figure = Figure(figsize=(_PANEL[0] * 2, _PANEL[1] + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _profiles(left, rows, steps)
    ordered = sorted(rows, key=lambda row: float(row["normalised"]["iqm"]))
    for place, row in enumerate(ordered):
        found = row["normalised"]
        errors = [[found["iqm"] - found["low"]], [found["high"] - found["iqm"]]]
        right.errorbar(found["iqm"], place, xerr=errors, fmt="o", color=_colour(row["method"]), capsize=2)
    right.set_yticks(range(len(ordered)), [row["method"] for row in ordered], fontsize=8)
    right.set_xlabel(f"expert-normalised return, IQM and 95 % interval\n{rows[0]['families']} families, {steps} steps")
    right.set_xlim(left=max(_LOWEST, right.get_xlim()[0]))
    _dress(right, "x")
    left.legend(frameon=False, fontsize=7, loc="lower left")
    return figure


def _curves(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Gap closed against the length of D; methods without D as horizontal lines."""
    lengths = sorted({row["steps"] for row in summary["methods"] if row["steps"] is not None})
    low = 0.0
    for name in dict.fromkeys(row["method"] for row in summary["methods"]):
        rows = [row for row in summary["methods"] if row["method"] == name and row["gap_closed"] is not None]
        if not rows or name == "base-policy":
            continue
        if rows[0]["steps"] is None:
            axes.axhline(rows[0]["gap_closed"]["iqm"], color=_colour(name), lw=1.3, ls="--", label=name)
            continue
        rows.sort(key=lambda row: int(row["steps"]))
        places = [lengths.index(row["steps"]) for row in rows]
        middle = [row["gap_closed"]["iqm"] for row in rows]
        ours = name == "mapper"
        axes.plot(
            places,
            middle,
            color=_colour(name),
            marker=_STYLES.get(method_name(name), ("", "o"))[1],
            ms=4,
            lw=2.4 if ours else 1.2,
            zorder=3 if ours else 2,
            label=name,
        )
        if ours:  # other intervals are in the tables: a dozen bands would overlap
            bottom, top = ([row["gap_closed"][side] for row in rows] for side in ("low", "high"))
            axes.fill_between(places, bottom, top, color=_colour(name), alpha=0.2, lw=0)
        low = min(low, *middle)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axhline(1, color="0.6", lw=0.8)
    axes.set_ylim(max(_LOWEST, low - 0.05), 1.15)
    axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axes.set_xlabel(f"environment steps of the new task\n{summary['counted_tasks']} test-in tasks")
    axes.set_ylabel("gap closed, phi_0 (0) to expert (1), IQM")
    _dress(axes, "y")


def _profiles(axes: Axes, rows: Sequence[Mapping[str, Any]], steps: int) -> None:
    """Fraction of runs above a score."""
    for row in rows:
        name = row["method"]
        ours = name == "mapper"
        axes.plot(THRESHOLDS, row["profile"]["share"], color=_colour(name), lw=2.4 if ours else 1.2, label=name)
        if ours:
            bounds = row["profile"]["low"], row["profile"]["high"]
            axes.fill_between(THRESHOLDS, bounds[0], bounds[1], color=_colour(name), alpha=0.2, lw=0)
    axes.set_xlabel(f"expert-normalised return, {steps} steps of the task")
    axes.set_ylabel("share of runs above it")
    shares = np.array([row["profile"]["share"] for row in rows])
    telling = THRESHOLDS[((shares > 0) & (shares < 1)).any(axis=0)]
    if telling.size:
        axes.set_xlim(telling.min() - 0.05, telling.max() + 0.05)
    axes.set_ylim(-0.02, 1.02)
    _dress(axes, "both")


def _learning(axes: Axes, learning: Mapping[str, Any]) -> None:
    """Normalised score of PPO against its environment steps, and the mapped policy's point."""
    seen: dict[str, int] = {}
    entries: list[Mapping[str, Any]] = []
    for name, found in learning["curves"].items():
        start = name.partition(",")[0]
        steps, scores, before = curve_over_tasks(found)
        style = _DASHES[seen.get(start, 0) % len(_DASHES)]
        seen[start] = seen.get(start, 0) + 1
        middle = [iqm(column) for column in scores.T]
        shown = np.maximum(steps + before[0], _FIRST_STEP)
        axes.plot(shown, middle, color=_STARTS[start], ls=style, lw=1.4, label=f"PPO from {name}")
        entries = found
    if entries and "level_normalised" in entries[0]:
        level = iqm([entry["level_normalised"] for entry in entries])
        axes.axhline(level, color="#0b6fb8", lw=0.8, ls=":")
        axes.plot([learning["length"]], [level], "*", color="#0b6fb8", ms=13, zorder=4, label="mapped, no PPO")
    axes.set_xscale("log")
    axes.set_xlabel(f"environment steps of the new task\n{len(entries)} test-in tasks, IQM")
    axes.set_ylabel("expert-normalised return")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -1.0), min(top, 1.3))
    axes.legend(frameon=False, fontsize=7)
    _dress(axes, "both")


def _colour(name: str) -> str:
    return _STYLES.get(method_name(name), ("#343a40", "o"))[0]


def _dress(axes: Axes, grid: Any) -> None:
    axes.grid(axis=grid, color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
