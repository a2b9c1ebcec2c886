"""Plots of returns and scores against the length of D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.common.statistics import bootstrap_interval, iqm
from metamap_rl.evaluation.scores import Evaluation
from metamap_rl.viz.labels import Name, name_ends
from metamap_rl.viz.style import BLUE, GREEN, GREY, ORANGE, dress, short_ticks

__all__ = ["Score", "plot_lengths"]

Score = Literal["return", "gap closed"]
"""Quantity on the y axis: return, or gap closed between base policy and expert."""

_PANEL, _NAMES = (2.7, 2.8), 1.45  # inches of a panel, and of the names beside the last one
_LEFT, _BETWEEN, _TOP, _BOTTOM = 0.9, {"return": 0.6, "gap closed": 0.25}, 0.35, 0.75  # inches
_MARGIN = 0.08  # of the y axis, above and below the data
_BOOTSTRAP_SEED = 0


def plot_lengths(evaluations: Mapping[str, Evaluation], *, score: Score = "return") -> Figure:
    """Plot results of generated policies against the length of D, one panel per evaluation.

    A panel shows the generated policy (interquartile mean over tasks, with a 95 % bootstrap interval over tasks and
    retrained mappers), base policy and expert as lines, and the shuffled control (another task's D) dashed. Lengths are
    evenly spaced.

    Args:
        evaluations: evaluations by title of the panel, usually the family.
        score: quantity on the y axis.

    Raises:
        MetaMapError: nothing to plot, an unknown score, or "gap closed" if no expert beats the base policy.
    """
    if not evaluations:
        raise MetaMapError("there is no evaluation to plot")
    if score not in ("return", "gap closed"):
        raise unknown_name("score", score, ("return", "gap closed"))
    step = _PANEL[0] + _BETWEEN[score]
    width, height = _LEFT + len(evaluations) * step + _NAMES, _TOP + _PANEL[1] + _BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    names: list[Name] = []
    for index, (title, evaluation) in enumerate(evaluations.items()):
        box = (_LEFT + index * step) / width, _BOTTOM / height, _PANEL[0] / width, _PANEL[1] / height
        axes = figure.add_axes(box)
        names = _panel(axes, evaluation, score)
        axes.set_title(title, fontsize=11, fontweight="bold")
    if score == "gap closed":  # the same quantity on the same axis
        low, high = zip(*(axes.get_ylim() for axes in figure.axes), strict=True)
        for axes in figure.axes:
            axes.set_ylim(min(low), max(high))
            axes.tick_params(labelleft=axes is figure.axes[0])
    name_ends(figure.axes[-1], names, size=9)
    unit = "return" if score == "return" else "gap closed, base policy 0, expert 1"
    figure.axes[0].set_ylabel(f"{unit}\nIQM and 95 % interval over tasks")
    return figure


def _panel(axes: Axes, evaluation: Evaluation, score: Score) -> list[Name]:
    """Plot one evaluation; returns the names of its curves."""
    expert, base = (_score(evaluation, row[None], score) for row in (evaluation.expert, evaluation.base))
    if not expert.size:
        raise MetaMapError("no task has a gap to close: no expert is better than the base policy in a paired test")
    curves = {name: _curve(evaluation, name, score) for name in ("mapper", "shuffled")}
    lengths = sorted({steps for curve in curves.values() for steps in curve})
    levels = {"expert": (float(iqm(expert)), GREEN), "base policy": (float(iqm(base)), GREY)}
    for label, (level, colour) in levels.items():
        axes.axhline(level, color=colour, lw=1.6, label=label)
    styles: dict[str, tuple[str, str, dict[str, Any]]] = {
        "shuffled": ("from another task's D", ORANGE, {"ls": "--", "lw": 1.4, "marker": "."}),
        "mapper": ("generated policy", BLUE, {"lw": 2.2, "marker": "o", "ms": 5}),
    }
    names = [Name(label, level, colour) for label, (level, colour) in levels.items()]
    for name, (label, colour, style) in styles.items():
        curve = curves[name]
        if not curve:
            continue
        places = [lengths.index(steps) for steps in curve]
        middle, low, high = np.array(list(curve.values())).T
        axes.plot(places, middle, color=colour, label=label, **style)
        names.append(Name(label, float(middle[-1]), colour))
        if name == "mapper":
            axes.fill_between(places, low, high, color=colour, alpha=0.18, lw=0)
    _limit(axes, lengths, _visible(curves, [level for level, _ in levels.values()]))
    count = len(evaluation.tasks) if score == "return" else int(evaluation.counted.sum())
    text = f"{count} unseen {'task' if count == 1 else 'tasks'}, {evaluation.episodes} episodes each"
    axes.set_xlabel(f"transitions in D\n{text}", fontsize=9)
    return names


def _limit(axes: Axes, lengths: Sequence[int], limits: tuple[float, float]) -> None:
    axes.set_xticks(range(len(lengths)), [str(steps) for steps in lengths])
    axes.set_xlim(-0.25, max(len(lengths) - 0.75, 0.25))
    axes.set_ylim(*limits)
    short_ticks(axes.yaxis)
    dress(axes)


def _visible(curves: Mapping[str, Mapping[int, NDArray[np.float64]]], lines: Sequence[float]) -> tuple[float, float]:
    """Range of the y axis: all lines, curves and the interval, but not a control far below."""
    shown = [*lines, *(value for row in curves["mapper"].values() for value in row)]
    low, high = min(shown), max(shown)
    span = high - low or 1.0
    control = [row[0] for row in curves["shuffled"].values()]
    low = min([low, *(max(value, low - 0.6 * span) for value in control)])
    high = max([high, *control])
    margin = _MARGIN * (high - low or 1.0)
    return low - margin, high + margin


def _curve(evaluation: Evaluation, method: str, score: Score) -> dict[int, NDArray[np.float64]]:
    """(IQM, low, high) of a method by length of D, in order."""
    curve = {}
    for scores in evaluation.methods:
        if scores.method == method and scores.steps is not None:
            values = _score(evaluation, scores.returns, score)
            interval = bootstrap_interval(values, np.random.default_rng(_BOOTSTRAP_SEED))
            curve[scores.steps] = np.array([interval.estimate, interval.low, interval.high])
    return dict(sorted(curve.items()))


def _score(evaluation: Evaluation, returns: NDArray[np.float64], score: Score) -> NDArray[np.float64]:
    return returns if score == "return" else evaluation.gap_closed(returns)
