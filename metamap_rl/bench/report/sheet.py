"""Panels of a report's figures, with matplotlib's object-oriented interface.

Text and lines other than learners' have placeholder colours, which `drawing.as_inline_svg` replaces by the page's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metamap_rl.bench.report.hover import Grid, Trace
from metamap_rl.bench.report.pens import Pen
from metamap_rl.bench.summary import Group, bands
from metamap_rl.common.numbers import decimals
from metamap_rl.viz.labels import Key, Name, name_ends, name_lines, name_points
from metamap_rl.viz.style import dress, short_ticks

__all__ = ["DPI", "FAINT", "INK", "Sheet", "page_style"]

INK, FAINT = "#1b1f24", "#8a909a"  # placeholders for the page's, see `drawing.as_inline_svg`
DPI = 110
_SIZE = 8.0  # points, of names
_HEIGHT, _LEFT, _TOP, _BOTTOM, _BETWEEN = 2.6, 0.62, 0.3, 0.52, 0.5  # inches
_WIDTHS = {1: 3.7, 2: 3.1, 3: 2.7}  # inches of a panel, by their number
_SIDE, _STEP, _ABOVE = 1.95, 2.37, 0.62  # inches of small panels, from one to the next, above the first
_MOST_RUNS = 12  # drawn one by one


@contextmanager
def page_style() -> Iterator[None]:
    """Settings of matplotlib for all figures."""
    settings: dict[Any, Any] = {
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": FAINT,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "font.size": 9,
        "svg.fonttype": "none",
    }
    with rc_context(settings):
        yield


class Sheet:
    """A figure of panels, in which learners have their names beside their curves.

    Args:
        figure: the figure.
        panels: its axes.

    Attributes:
        figure: the figure.
        panels: its axes.
        told: what the page tells under the pointer.
    """

    def __init__(self, figure: Figure, panels: Sequence[Axes]) -> None:
        self.figure, self.panels = figure, list(panels)
        self.told: list[Trace | Grid] = []
        self._names: list[dict[str, Name]] = [{} for _ in panels]

    @classmethod
    def in_row(cls, count: int, names: Sequence[str] = ()) -> Sheet:
        """Panels side by side, each with room on its right for the names of learners."""
        width, room = _WIDTHS[count], max((0.42 + 0.066 * len(name) for name in names), default=0.1)
        height = _HEIGHT + max(0.0, 0.13 * (len(names) - 14))
        lefts = [_LEFT + index * (width + room + _BETWEEN) for index in range(count)]
        size = lefts[-1] + width + room, _BOTTOM + height + _TOP
        return cls(*_placed(size, [(left, _TOP, width, height) for left in lefts]))

    @classmethod
    def in_grid(cls, count: int, across: int) -> Sheet:
        """Small square panels in rows, and a narrow one for a scale, the last."""
        columns, rows = min(across, count), -(-count // across)
        places = [
            (0.4 + index % across * _STEP, _ABOVE + index // across * _STEP, _SIDE, _SIDE) for index in range(count)
        ]
        size = 0.4 + columns * _STEP + 0.45, _ABOVE + rows * _STEP
        return cls(*_placed(size, [*places, (size[0] - 0.62, _ABOVE, 0.1, _SIDE)]))

    def curve(
        self,
        panel: int,
        pen: Pen,
        x: Any,
        rows: NDArray[np.float64],
        seeds: Sequence[int],
        *,
        of: str,
        at: Sequence[str] | None = None,
    ) -> None:
        """Draw the interquartile mean of rows [cells, n] with a 95 % interval over seeds, and each row faintly.

        Args:
            panel: number of the panel.
            pen: of the learner.
            x: places [n].
            rows: one for each cell.
            seeds: of each cell.
            of: name of the x axis in what the page tells ("stage").
            at: names of the places; default the numbers.
        """
        middle, low, high = bands(rows, list(seeds))
        axes, many = self.panels[panel], len(set(seeds)) > 1
        every = max(1, len(middle) // 8) if at is None else 1
        (line,) = axes.plot(
            x, middle, color=pen.colour, ls=pen.dash, lw=1.7, marker=pen.marker, ms=4, markevery=every, label=pen.name
        )
        line.set_gid(self._id(pen))
        if many:
            axes.fill_between(x, low, high, color=pen.colour, alpha=0.14, lw=0).set_gid(self._id(pen))
        self._runs(panel, pen, x, rows)
        texts = [
            f"{of} {place}: {_value(row, interval=many)}"
            for place, *row in zip(x if at is None else at, middle, low, high, strict=True)
        ]
        self._tell(panel, pen, x, middle, texts)

    def dashed(self, panel: int, pen: Pen, x: Any, middle: NDArray[np.float64], what: str) -> None:
        """Draw a thin dashed curve, of a baseline."""
        (line,) = self.panels[panel].plot(x, middle, color=pen.colour, ls="--", lw=1.0, label="_")
        line.set_gid(self._id(pen))
        texts = [f"{what}: {decimals(y, 3)}" for y in middle]
        self.told.append(Trace(self.panels[panel], pen.number, np.asarray(x, dtype=np.float64), middle, texts))

    def point(self, panel: int, pen: Pen, x: float, y: tuple[float, float | None, float | None], text: str) -> None:
        """Draw a point with its interval along y; ``text`` is what the page tells."""
        axes, (middle, low, high) = self.panels[panel], y
        (point,) = axes.plot([x], [middle], color=pen.colour, marker=pen.marker, ms=8, ls="", label=pen.name)
        point.set_gid(self._id(pen))
        if low is not None and high is not None:
            (line,) = axes.plot([x, x], (low, high), color=pen.colour, lw=1.5)
            line.set_gid(self._id(pen))
        self._tell(panel, pen, [x], np.array([middle]), [text])

    def over_stages(self, panel: int, pen: Pen, curves: NDArray[np.float64], group: Group, *, first: int) -> None:
        """Draw curves [cells, K] over stages, counted from ``first``, or their end only (`Group.every`)."""
        stages = np.arange(first, first + curves.shape[1])
        if group.every == 1:
            self.curve(panel, pen, stages, curves, group.seeds, of="stage")
            return
        ends = [float(part[-1]) for part in bands(curves, group.seeds)]
        many = len(set(group.seeds)) > 1
        bar = (ends[1], ends[2]) if many else (None, None)
        self.point(panel, pen, stages[-1], (ends[0], *bar), f"at the end: {_value(ends, interval=many)}")
        self.dots(panel, pen, np.full(len(curves), stages[-1]), curves[:, -1])

    def dots(self, panel: int, pen: Pen, x: Any, y: Any) -> None:
        """Draw a faint point for each cell, if there are several."""
        if len(y) > 1:
            (dots,) = self.panels[panel].plot(
                x, y, color=pen.colour, ls="", marker=".", ms=4, alpha=0.35, label="_", zorder=1
            )
            dots.set_gid(self._id(pen))

    def _runs(self, panel: int, pen: Pen, x: Any, rows: NDArray[np.float64]) -> None:
        """Draw single runs as faint lines, if there are several and not too many."""
        if 1 < len(rows) <= _MOST_RUNS:
            breaks = np.full((len(rows), 1), np.nan)  # one line with gaps is smaller than many
            places, values = np.tile([*x, np.nan], len(rows)), np.hstack([rows, breaks]).ravel()
            (line,) = self.panels[panel].plot(places, values, color=pen.colour, lw=0.6, alpha=0.3, label="_", zorder=1)
            line.set_gid(self._id(pen))

    def dress(self, panel: int, x: str, y: str, title: str) -> None:
        """Set labels, title and grid of a panel."""
        axes = self.panels[panel]
        if x.startswith("stage"):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        short_ticks(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(title, fontsize=9, loc="left")
        dress(axes)

    def name(self, panels: Sequence[int] | None = None) -> None:
        """Name the learners beside the ends of their curves, in some panels or all."""
        for panel in range(len(self.panels)) if panels is None else panels:
            name_ends(self.panels[panel], list(self._names[panel].values()), size=_SIZE)

    def key(self, panel: int, chosen: Sequence[Pen]) -> None:
        """Name learners to the right of a panel, from the top, where ends of curves tell nothing."""
        keys = [Key(pen.name, pen.colour, pen.dash, pen.marker, f"L{pen.number}-{panel}-name") for pen in chosen]
        name_lines(self.panels[panel], keys, size=_SIZE)

    def name_points(self, panel: int) -> None:
        """Name the learners beside their points."""
        name_points(self.panels[panel], list(self._names[panel].values()), size=_SIZE)

    def _tell(self, panel: int, pen: Pen, x: Any, y: NDArray[np.float64], texts: Sequence[str]) -> None:
        self.told.append(Trace(self.panels[panel], pen.number, np.asarray(x, dtype=np.float64), y, texts))
        known = np.flatnonzero(np.isfinite(y))
        x_end, y_end = (float(x[known[-1]]), float(y[known[-1]])) if len(known) else (np.nan, np.nan)
        self._names[panel][pen.name] = Name(pen.name, y_end, pen.colour, f"L{pen.number}-{panel}-name", x_end)

    def _id(self, pen: Pen) -> str:
        """A new id, from which the page knows the learner."""
        return f"L{pen.number}-{sum(len(axes.get_children()) for axes in self.panels)}"


def _value(row: Sequence[float], *, interval: bool) -> str:
    """An estimate with its bounds, as in the tables."""
    middle, low, high = (decimals(value, 3) for value in row)
    return f"{middle} [{low}, {high}]" if interval else middle


def _placed(
    size: tuple[float, float], places: Sequence[tuple[float, float, float, float]]
) -> tuple[Figure, list[Axes]]:
    """A figure with axes at places (left, top, width, height), in inches from its upper left corner."""
    figure = Figure(figsize=size, dpi=DPI)
    FigureCanvasAgg(figure)
    wide, high = size
    return figure, [
        figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
        for left, top, width, height in places
    ]
