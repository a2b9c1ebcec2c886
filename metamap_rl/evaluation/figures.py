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

__all__ = ["Score", "plot_lengths"]

Score = Literal["return", "gap closed"]
"""Quantity on the y axis: return, or gap closed between base policy and expert."""

_GENERATED, _EXPERT, _BASE, _SHUFFLED = "#0b6fb8", "#2b8a3e", "#6b6b6b", "#c2571a"
_PANEL, _NARROWEST = (4.3, 3.5), 6.0  # inches; minimum width of the legend
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
    width, height = max(_PANEL[0] * len(evaluations), _NARROWEST), _PANEL[1] + 0.8
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(evaluations), squeeze=False)[0]
    for axes, (title, evaluation) in zip(panels, evaluations.items(), strict=True):
        _panel(axes, evaluation, score)
        axes.set_title(title, fontsize=11, fontweight="bold")
    unit = "return" if score == "return" else "gap closed from base policy (0) to expert (1)"
    panels[0].set_ylabel(f"{unit}, IQM over tasks" if score == "return" else unit)
    handles = {text: line for axes in panels for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=4 if len(panels) > 2 else 2,
        frameon=False,
        fontsize=9,
    )
    return figure


def _panel(axes: Axes, evaluation: Evaluation, score: Score) -> None:
    """Plot one evaluation."""
    expert, base = (_score(evaluation, row[None], score) for row in (evaluation.expert, evaluation.base))
    if not expert.size:
        raise MetaMapError("no task has a gap to close: no expert is better than the base policy in a paired test")
    curves = {name: _curve(evaluation, name, score) for name in ("mapper", "shuffled")}
    lengths = sorted({steps for curve in curves.values() for steps in curve})
    axes.axhline(iqm(expert), color=_EXPERT, lw=1.6, label="expert")
    axes.axhline(iqm(base), color=_BASE, lw=1.6, label="base policy")
    styles: dict[str, tuple[str, str, dict[str, Any]]] = {
        "shuffled": ("generated from another task's D", _SHUFFLED, {"ls": "--", "lw": 1.4, "marker": "."}),
        "mapper": ("generated policy, 95 % interval", _GENERATED, {"lw": 2.2, "marker": "o", "ms": 5}),
    }
    for name, (label, colour, style) in styles.items():
        curve = curves[name]
        if not curve:
            continue
        places = [lengths.index(steps) for steps in curve]
        middle, low, high = np.array(list(curve.values())).T
        axes.plot(places, middle, color=colour, label=label, **style)
        if name == "mapper":
            axes.fill_between(places, low, high, color=colour, alpha=0.18, lw=0)
    _dress(axes, lengths, _visible(curves, [iqm(expert), iqm(base)]))
    count = len(evaluation.tasks) if score == "return" else int(evaluation.counted.sum())
    text = f"{count} unseen {'task' if count == 1 else 'tasks'}, {evaluation.episodes} episodes each"
    axes.set_xlabel(f"transitions in D\n{text}")


def _dress(axes: Axes, lengths: Sequence[int], limits: tuple[float, float]) -> None:
    axes.set_xticks(range(len(lengths)), [str(steps) for steps in lengths])
    axes.set_xlim(-0.25, max(len(lengths) - 0.75, 0.25))
    axes.set_ylim(*limits)
    axes.grid(axis="y", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


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
