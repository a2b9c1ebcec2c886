"""Plot of an ablation: gap closed with its interval, one line for each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metamap_envs.errors import MetaMapError

__all__ = ["plot_ablation"]

_COLOUR, _FIRST = "#0b6fb8", "#2b8a3e"
_WIDTH, _ROW = 7.0, 0.28  # inches


def plot_ablation(rows: Sequence[Mapping[str, Any]], length: str, title: str) -> Figure:
    """Plot rows of `evaluation.ablation.summarise`, with a reference line at the first one (the baseline).

    Args:
        rows: rows to plot, top to bottom.
        length: transitions of D, a key of the rows' ``gap_closed``.
        title: title of the figure.

    Raises:
        MetaMapError: no rows, or none has a gap at that length.
    """
    drawn = [row for row in rows if length in row["gap_closed"]]
    if not drawn:
        raise MetaMapError(f"there is no gap closed with {length} steps of D to plot")
    figure = Figure(figsize=(_WIDTH, 1.4 + _ROW * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, row in enumerate(drawn):
        gap = row["gap_closed"][length]
        errors = [[gap["iqm"] - gap["low"]], [gap["high"] - gap["iqm"]]]
        axes.errorbar(gap["iqm"], place, xerr=errors, fmt="o", color=_COLOUR if place else _FIRST, capsize=2)
    axes.axvline(drawn[0]["gap_closed"][length]["iqm"], color=_FIRST, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(drawn)), [row["name"].replace("+", ", ") for row in drawn], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"gap closed with {length} steps of D, IQM and 95 % interval, validation tasks")
    axes.set_title(title, fontsize=11, fontweight="bold")
    axes.grid(axis="x", alpha=0.3)
    return figure
