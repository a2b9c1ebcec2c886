"""Plot of an ablation: gap closed with its interval, one line for each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metamap_envs.errors import MetaMapError
from metamap_rl.common.numbers import decimals
from metamap_rl.viz.style import BLUE, GREEN, dress, short_ticks

__all__ = ["plot_ablation"]

_WIDTH, _ROW = 8.0, 0.26  # inches


def plot_ablation(rows: Sequence[Mapping[str, Any]], length: str, title: str) -> Figure:
    """Plot rows of `evaluation.ablation.summarise` from best to worst, with a line at the first one (the baseline).

    Args:
        rows: rows to plot, the baseline first.
        length: transitions of D, a key of the rows' ``gap_closed``.
        title: title of the figure.

    Raises:
        MetaMapError: no rows, or none has a gap at that length.
    """
    drawn = [row for row in rows if length in row["gap_closed"]]
    if not drawn:
        raise MetaMapError(f"there is no gap closed with {length} steps of D to plot")
    first = drawn[0]
    drawn.sort(key=lambda row: -float(row["gap_closed"][length]["iqm"]))
    figure = Figure(figsize=(_WIDTH, 1.0 + _ROW * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, row in enumerate(drawn):
        gap, colour = row["gap_closed"][length], GREEN if row is first else BLUE
        errors = [[gap["iqm"] - gap["low"]], [gap["high"] - gap["iqm"]]]
        axes.errorbar(gap["iqm"], place, xerr=errors, fmt="o", color=colour, capsize=2)
        value = f"{decimals(gap['iqm'])} [{decimals(gap['low'])}, {decimals(gap['high'])}]"
        axes.annotate(value, (1.02, place), xycoords=axes.get_yaxis_transform(), fontsize=8, va="center", color=colour)
    axes.axvline(first["gap_closed"][length]["iqm"], color=GREEN, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(drawn)), [_name(row, first) for row in drawn], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"gap closed with {length} transitions of D, IQM and 95 % interval, validation tasks")
    axes.set_title(title, fontsize=11, fontweight="bold", loc="left")
    short_ticks(axes.xaxis)
    dress(axes, "x")
    return figure


def _name(row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """What a setting changes, ."""
    return f"{row['name'].replace('+', ', ')}{' (the baseline)' if row is first else ''}"
