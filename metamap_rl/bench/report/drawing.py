"""Style and output of the figures of a report, with matplotlib's object-oriented interface.

Text and lines other than learners' have placeholder colours, which `as_inline_svg` replaces by the page's, for light
and dark themes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metamap_rl.bench.summary import Group, bands

__all__ = [
    "DPI",
    "FAINT",
    "HEIGHT",
    "INK",
    "PALETTE",
    "WIDTH",
    "Pen",
    "ReportFigure",
    "add_legend",
    "as_inline_svg",
    "as_png",
    "as_svg",
    "dress",
    "make_panels",
    "page_style",
    "pens",
]


PALETTE = ("#1f77b4", "#d1662b", "#2f9e58", "#a05cc5", "#b58a10", "#d1477f", "#1d98a8", "#8a6a55", "#7a7f87", "#5566d6")
"""Colours of learners, visible on white and on near black."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
INK, FAINT = "#1b1f24", "#8a909a"  # placeholders for the page's, see `as_inline_svg`
WIDTH, HEIGHT = 4.2, 3.1  # inches of a panel
DPI = 110
_MOST_RUNS = 12  # drawn one by one


@dataclass(frozen=True)
class ReportFigure:
    """A figure and its caption."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Pen:
    """Line style of a learner in all figures."""

    number: int
    name: str

    @property
    def colour(self) -> str:
        """Colour, by number among all learners."""
        return PALETTE[self.number % len(PALETTE)]

    @property
    def marker(self) -> str:
        """Marker, by number, with another period than the colour."""
        return _MARKERS[(self.number + self.number // len(PALETTE)) % len(_MARKERS)]

    def line(self, axes: Axes, x: Any, y: Any, band: tuple[Any, Any] | None = None, **style: Any) -> None:
        """Draw a curve with its band, in a group that the page can hide by the learner's number."""
        every = max(1, len(x) // 8)
        settings = {"lw": 1.8, "ms": 4, "marker": self.marker, "markevery": every, "label": self.name, **style}
        (line,) = axes.plot(x, y, color=self.colour, **settings)
        line.set_gid(self._id(axes))
        if band is not None:
            axes.fill_between(x, *band, color=self.colour, alpha=0.15, lw=0).set_gid(self._id(axes))

    def dot(self, axes: Axes, x: float, y: float, bar: tuple[float, float] | None) -> None:
        """Draw a point with its interval along y."""
        (point,) = axes.plot([x], [y], color=self.colour, marker=self.marker, ms=8, ls="", label=self.name)
        point.set_gid(self._id(axes))
        if bar is not None:
            (line,) = axes.plot([x, x], bar, color=self.colour, lw=1.5)
            line.set_gid(self._id(axes))

    def over_stages(self, axes: Axes, curves: NDArray[np.float64], group: Group, *, first: int) -> None:
        """Draw the interquartile mean of curves [cells, K] with a band, or its end only (`Group.every`).

        Stages are counted from ``first``.
        """
        middle, low, high = bands(curves, group.seeds)
        stages = np.arange(first, first + len(middle))
        if group.every > 1:
            self.dot(axes, stages[-1], middle[-1], (low[-1], high[-1]))
        else:
            self.line(axes, stages, middle, (low, high))
            self.runs(axes, stages, curves)

    def runs(self, axes: Axes, x: Any, curves: NDArray[np.float64]) -> None:
        """Draw single runs as faint lines, if there are several and not too many."""
        if 1 < len(curves) <= _MOST_RUNS:
            for curve in curves:
                (line,) = axes.plot(x, curve, color=self.colour, lw=0.6, alpha=0.3, label="_", zorder=1)
                line.set_gid(self._id(axes))

    def _id(self, axes: Axes) -> str:
        figure = axes.get_figure(root=True)
        assert figure is not None
        return f"L{self.number}-{figure.axes.index(axes)}-{len(axes.get_children())}"


def pens(learners: Sequence[str]) -> dict[str, Pen]:
    """A pen for each learner, by its index."""
    return {name: Pen(number, name) for number, name in enumerate(learners)}


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


def make_panels(count: int) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels side by side."""
    width = (WIDTH if count < 3 else WIDTH * 0.78) * count + 0.2
    figure = Figure(figsize=(max(width, 4.8), HEIGHT + 0.5), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    figure.subplots_adjust(left=0.72 / figure.get_figwidth(), right=0.985, top=0.92, bottom=0.3, wspace=0.22)
    return figure, axes


def dress(axes: Axes, x: str, y: str, title: str) -> None:
    """Set labels, title and grid of a panel."""
    if x.startswith("stage"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.4)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def add_legend(figure: Figure) -> None:
    """Add one legend for all panels, below them."""
    handles = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 1.3)))
    rows = -(-len(handles) // columns)
    figure.set_figheight(HEIGHT + 0.2 + 0.19 * rows)
    figure.subplots_adjust(bottom=(0.6 + 0.19 * rows) / figure.get_figheight(), top=1 - 0.28 / figure.get_figheight())
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=2.4
    )


def as_svg(drawn: ReportFigure) -> bytes:
    """Standalone SVG, dark on white."""
    text = _svg(drawn)
    return text.encode()


def as_inline_svg(drawn: ReportFigure) -> str:
    """SVG for the page: with its text colour and width, and learners as classes."""
    text = _svg(drawn)
    text = text[text.index("<svg") :]
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'id="L(\d+)-[\d-]+"', r'class="learner-\1"', text)  # ids would repeat between figures
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"\n\s*", "\n", text)
    return text.replace(INK, "currentColor").replace(FAINT, "var(--faint)")


def as_png(drawn: ReportFigure) -> bytes:
    """PNG, dark on white."""
    content = io.BytesIO()
    with rc_context({"savefig.facecolor": "white"}):
        drawn.figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _svg(drawn: ReportFigure) -> str:
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": drawn.name, "svg.fonttype": "none"}):
        drawn.figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue().decode()
