"""Figures of a run: curves over lengths of D, performance profiles, adaptation against learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metamap_envs.errors import MetaMapError
from metamap_rl.common.numbers import decimals
from metamap_rl.common.statistics import iqm
from metamap_rl.evaluation.protocol.report import THRESHOLDS, curve_over_tasks
from metamap_rl.evaluation.scores import method_name
from metamap_rl.viz.labels import Key, Name, name_ends, name_lines
from metamap_rl.viz.style import BLUE, GOLD, GREEN, GREY, ORANGE, PURPLE, dress, short_ticks

__all__ = ["plot_family", "plot_pooled"]

_SOLID, _DASHED, _DOTTED = "-", "--", ":"
_STYLES: dict[str, tuple[str, str, str]] = {
    "mapper": (BLUE, "o", _SOLID),
    "privileged-mapper": (BLUE, "", _DASHED),
    "estimate": (GREEN, "h", _SOLID),
    "sysid": (GREEN, "*", _DASHED),
    "linear-actuators": (GREEN, "X", _DOTTED),
    "universal-policy": (GREEN, "", _DASHED),
    "nearest-expert": (PURPLE, "^", _SOLID),
    "likeliest-expert": (PURPLE, "D", _DASHED),
    "mean-expert": (PURPLE, "", _DASHED),
    "context-policy": (ORANGE, "s", _SOLID),
    "wide-context-policy": (ORANGE, "D", _DASHED),
    "student": (ORANGE, "p", _DOTTED),
    "wide-student": (ORANGE, "8", _DASHED),
    "rl2": (ORANGE, "P", _DOTTED),
    "maml": (GOLD, "v", _SOLID),
    "reptile": (GOLD, "<", _DASHED),
    "fine-tuning": (GOLD, "x", _DOTTED),
    "shuffled": (GREY, ".", _DOTTED),
    "base-policy": (GREY, "", _SOLID),
}
"""Colour, marker and dash. Blue: the mapper; green: parameters that are known or estimated; purple: stored experts;
orange: one policy for all tasks; gold: gradient steps on the task; grey: references."""

_STARTS = {"phi-0": GREY, "scratch": ORANGE, "phi-hat": BLUE}
_DASHES = (_SOLID, _DASHED, _DOTTED)
_PANEL, _LEFT, _TOP, _BOTTOM = (3.1, 3.0), 0.7, 0.55, 0.75  # inches
_SMALL = 8.0  # points, of names
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
    names = {row["method"] for row in summary["methods"]}
    room = 0.35 + 0.075 * max(map(len, names))
    figure, panels = _panels([_LEFT + index * (_PANEL[0] + room + 0.6) for index in range(3 if learning else 2)], room)
    name_ends(panels[0], _curves(panels[0], summary), size=_SMALL)
    _profiles(panels[1], [row for row in summary["methods"] if "profile" in row], steps)
    if learning:
        name_ends(panels[2], _learning(panels[2], learning), size=_SMALL)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def _panels(lefts: Sequence[float], room: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels that begin at ``lefts``, with ``room`` on the right of the last, all in inches."""
    width, height = lefts[-1] + _PANEL[0] + room, _TOP + _PANEL[1] + _BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    size = _PANEL[0] / width, _PANEL[1] / height
    return figure, [figure.add_axes((left / width, _BOTTOM / height, *size)) for left in lefts]


def plot_pooled(rows: Sequence[Mapping[str, Any]], steps: int) -> Figure:
    """Plot `protocol.report.pooled`: the profile over all families, and normalised scores with intervals.

    Raises:
        MetaMapError: no rows.
    """
    rows = [row for row in rows if row["normalised"]]
    if not rows:
        raise MetaMapError("there is nothing to plot over several families")
    longest = 0.35 + 0.075 * max(len(row["method"]) for row in rows)  # inches of a name
    figure, (left, right) = _panels([_LEFT, _LEFT + _PANEL[0] + 2 * longest + 0.2], 1.2)
    _profiles(left, rows, steps)
    ordered = sorted(rows, key=lambda row: float(row["normalised"]["iqm"]))
    for place, row in enumerate(ordered):
        found = row["normalised"]
        errors = [[found["iqm"] - found["low"]], [found["high"] - found["iqm"]]]
        colour, marker, _ = _style(row["method"])
        right.errorbar(found["iqm"], place, xerr=errors, fmt=marker or "o", color=colour, capsize=2)
        value = f"{decimals(found['iqm'])} [{decimals(found['low'])}, {decimals(found['high'])}]"
        at: dict[str, Any] = {
            "xycoords": right.get_yaxis_transform(),
            "fontsize": _SMALL,
            "va": "center",
            "color": colour,
        }
        right.annotate(value, (1.02, place), **at)
    right.set_yticks(range(len(ordered)), [row["method"] for row in ordered], fontsize=8)
    right.set_xlabel(f"expert-normalised return, IQM and 95 % interval\n{rows[0]['families']} families, {steps} steps")
    right.set_xlim(left=max(_LOWEST, right.get_xlim()[0]))
    short_ticks(right.xaxis)
    dress(right, "x")
    return figure


def _curves(axes: Axes, summary: Mapping[str, Any]) -> list[Name]:
    """Gap closed against the length of D; methods without D as horizontal lines. Returns the curves' names."""
    lengths = sorted({row["steps"] for row in summary["methods"] if row["steps"] is not None})
    low, names = 0.0, []
    for name in dict.fromkeys(row["method"] for row in summary["methods"]):
        rows = [row for row in summary["methods"] if row["method"] == name and row["gap_closed"] is not None]
        if not rows or name == "base-policy":
            continue
        colour, marker, dash = _style(name)
        if rows[0]["steps"] is None:
            level = float(rows[0]["gap_closed"]["iqm"])
            axes.axhline(level, color=colour, lw=1.3, ls=dash, label=name)
            names.append(Name(name, level, colour))
            continue
        rows.sort(key=lambda row: int(row["steps"]))
        places = [lengths.index(row["steps"]) for row in rows]
        middle = [row["gap_closed"]["iqm"] for row in rows]
        ours = name == "mapper"
        style: dict[str, Any] = {
            "lw": 2.4 if ours else 1.3,
            "zorder": 3 if ours else 2,
            "ls": dash,
            "marker": marker,
            "ms": 4,
        }
        axes.plot(places, middle, color=colour, label=name, **style)
        names.append(Name(name, float(middle[-1]), colour))
        if ours:  # other intervals are in the tables: a dozen bands would overlap
            bottom, top = ([row["gap_closed"][side] for row in rows] for side in ("low", "high"))
            axes.fill_between(places, bottom, top, color=colour, alpha=0.2, lw=0)
        low = min(low, *middle)
    for level in (0, 1):
        axes.axhline(level, color="0.6", lw=0.8)
    axes.set_ylim(max(_LOWEST, low - 0.05), 1.15)
    axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axes.set_xlabel(f"environment steps of the new task\n{summary['counted_tasks']} test-in tasks")
    axes.set_ylabel("gap closed, phi_0 (0) to expert (1), IQM")
    short_ticks(axes.yaxis)
    dress(axes)
    return names


def _profiles(axes: Axes, rows: Sequence[Mapping[str, Any]], steps: int) -> None:
    """Fraction of runs above a score; the key beside it is sorted by the mean of the fractions."""
    for row in rows:
        colour, _, dash = _style(row["method"])
        ours = row["method"] == "mapper"
        axes.plot(THRESHOLDS, row["profile"]["share"], color=colour, ls=dash, lw=2.4 if ours else 1.3)
        if ours:
            bounds = row["profile"]["low"], row["profile"]["high"]
            axes.fill_between(THRESHOLDS, bounds[0], bounds[1], color=colour, alpha=0.2, lw=0)
    ordered = sorted(rows, key=lambda row: -float(np.mean(row["profile"]["share"])))
    name_lines(axes, [Key(row["method"], *_style(row["method"])[::2]) for row in ordered], size=_SMALL)
    axes.set_xlabel(f"expert-normalised return, {steps} steps of the task")
    axes.set_ylabel("share of runs above it")
    shares = np.array([row["profile"]["share"] for row in rows])
    telling = THRESHOLDS[((shares > 0) & (shares < 1)).any(axis=0)]
    if telling.size:
        axes.set_xlim(telling.min() - 0.05, telling.max() + 0.05)
    axes.set_ylim(-0.02, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        short_ticks(axis)
    dress(axes, "both")


def _learning(axes: Axes, learning: Mapping[str, Any]) -> list[Name]:
    """Normalised score of PPO against its environment steps, and the mapped policy's point; returns the names."""
    seen: dict[str, int] = {}
    names: list[Name] = []
    entries: list[Mapping[str, Any]] = []
    for name, found in learning["curves"].items():
        start = name.partition(",")[0]
        steps, scores, before = curve_over_tasks(found)
        style = _DASHES[seen.get(start, 0) % len(_DASHES)]
        seen[start] = seen.get(start, 0) + 1
        middle = [iqm(column) for column in scores.T]
        shown = np.maximum(steps + before[0], _FIRST_STEP)
        axes.plot(shown, middle, color=_STARTS[start], ls=style, lw=1.4, label=f"PPO from {name}")
        names.append(Name(f"PPO from {name}", float(middle[-1]), _STARTS[start]))
        entries = found
    if entries and "level_normalised" in entries[0]:
        level = iqm([entry["level_normalised"] for entry in entries])
        axes.axhline(level, color=BLUE, lw=0.8, ls=":")
        axes.plot([learning["length"]], [level], "*", color=BLUE, ms=13, zorder=4, label="mapped, no PPO")
        names.append(Name("mapped, no PPO", float(level), BLUE))
    axes.set_xscale("log")
    axes.set_xlabel(f"environment steps of the new task\n{len(entries)} test-in tasks, IQM")
    axes.set_ylabel("expert-normalised return")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -1.0), min(top, 1.3))
    short_ticks(axes.yaxis)
    dress(axes, "both")
    return names


def _style(name: str) -> tuple[str, str, str]:
    """Colour, marker and dash of a method."""
    return _STYLES.get(method_name(name), (GREY, "o", _DASHED))
