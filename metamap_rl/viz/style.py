"""The style of figures: five colours and grey, short numbers, few lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from metamap_rl.common.numbers import decimals

__all__ = ["BLUE", "COLOURS", "GOLD", "GREEN", "GREY", "ORANGE", "PURPLE", "dress", "short_ticks"]

BLUE, ORANGE, GREEN, PURPLE, GOLD = COLOURS = ("#1f77b4", "#d1662b", "#2f9e58", "#a05cc5", "#b58a10")
"""Visible on white and on near black."""
GREY = "#7a7f87"
"""Of references and bounds."""

_MOST_TICKS = 6


def short_ticks(axis: Any) -> None:
    """Ticks with few decimals and without a zero before the point."""
    axis.set_major_locator(MaxNLocator(_MOST_TICKS, steps=[1, 2, 2.5, 5, 10]))

    def text(value: float, position: int | None) -> str:
        ticks = axis.get_majorticklocs()
        step = min(np.diff(ticks)) if len(ticks) > 1 else 1.0
        digits = next(count for count in range(7) if abs(round(step, count) - step) < 1e-3 * step or count == 6)
        return "0" if abs(value) < 1e-9 * step else decimals(value, digits).replace("-", "\N{MINUS SIGN}")

    axis.set_major_formatter(FuncFormatter(text))


def dress(axes: Axes, grid: Any = "y") -> None:
    """A light grid, and only the two axes as spines."""
    axes.grid(axis=grid, color="0.5", alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
