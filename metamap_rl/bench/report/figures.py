"""The figures of a report, on matplotlib's objects alone.

Text and lines that are not a learner's are drawn in colours that stand for "the page's own", which `as_inline_svg`
replaces, so that the same figure is readable in the light and in the dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from metamap_rl.bench.result import matrix
from metamap_rl.bench.summary import Group, bands

__all__ = ["PALETTE", "Drawn", "as_inline_svg", "as_png", "as_svg", "draw_families", "draw_stream"]

PALETTE = ("#1f77b4", "#d1662b", "#2f9e58", "#a05cc5", "#b58a10", "#d1477f", "#1d98a8", "#8a6a55", "#7a7f87", "#5566d6")
"""Learners' colours: all of them can be told from white and from near black."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_INK, _FAINT = "#1b1f24", "#8a909a"  # of the page: see `as_inline_svg`
_WIDTH, _HEIGHT = 4.2, 3.1  # inches of a panel
_DPI = 110


@dataclass(frozen=True)
class Drawn:
    """A figure, and what to say of it."""

    name: str
    """Of its file, without suffix."""
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Pen:
    """How a learner is drawn, in all figures alike."""

    number: int
    name: str

    @property
    def colour(self) -> str:
        """By its number among all learners."""
        return PALETTE[self.number % len(PALETTE)]

    @property
    def marker(self) -> str:
        """By its number, with another period than the colour where there are many."""
        return _MARKERS[(self.number + self.number // len(PALETTE)) % len(_MARKERS)]

    def line(self, axes: Axes, x: Any, y: Any, band: tuple[Any, Any] | None = None, **style: Any) -> None:
        """A curve with its band, which the page can hide by the learner's number."""
        every = max(1, len(x) // 8)
        settings = {"lw": 1.8, "ms": 4, "marker": self.marker, "markevery": every, "label": self.name, **style}
        (line,) = axes.plot(x, y, color=self.colour, **settings)
        line.set_gid(self._id(axes))
        if band is not None:
            axes.fill_between(x, *band, color=self.colour, alpha=0.15, lw=0).set_gid(self._id(axes))

    def dot(self, axes: Axes, x: float, y: float, bar: tuple[float, float] | None) -> None:
        """A point with its interval along y."""
        (point,) = axes.plot([x], [y], color=self.colour, marker=self.marker, ms=8, ls="", label=self.name)
        point.set_gid(self._id(axes))
        if bar is not None:
            (line,) = axes.plot([x, x], bar, color=self.colour, lw=1.5)
            line.set_gid(self._id(axes))

    def over_stages(self, axes: Axes, curves: NDArray[np.float64], group: Group, *, first: int) -> None:
        """The mean of curves [cells, K] with its band from stage ``first`` on, or its end alone: see `Group.every`."""
        middle, low, high = bands(curves, group.seeds)
        stages = np.arange(first, first + len(middle))
        if group.every > 1:
            self.dot(axes, stages[-1], middle[-1], (low[-1], high[-1]))
        else:
            self.line(axes, stages, middle, (low, high))

    def _id(self, axes: Axes) -> str:
        figure = axes.get_figure(root=True)
        assert figure is not None
        return f"L{self.number}-{figure.axes.index(axes)}-{len(axes.get_children())}"


def pens(learners: Sequence[str]) -> dict[str, Pen]:
    """A pen for each learner, by its place among all of them."""
    return {name: Pen(number, name) for number, name in enumerate(learners)}


def draw_stream(groups: Sequence[Group], learners: Sequence[str]) -> Iterator[Drawn]:
    """All figures of one stream.

    Args:
        groups: its learners.
        learners: of the whole report, for the colours.
    """
    chosen, stream = pens(learners), groups[0].stream
    now_and_then = ", ".join(group.learner for group in groups if group.every > 1)
    ends = f" Of {now_and_then}, retrained only now and then, the end alone." if now_and_then else ""
    without = f" Without {now_and_then}, retrained only now and then." if now_and_then else ""
    older = f" Between the retrainings of {now_and_then} scores are those of an older mapper." if now_and_then else ""
    draw: dict[str, tuple[str, str, Callable[[], Figure | None]]] = {
        "scores": (
            "Scores after each stage",
            "Left: AP(i), the mean score on the tasks seen so far. Right: GEN_k(i), on held-out tasks. "
            f"Mean over cells with a 95 % bootstrap interval over seeds.{ends}",
            lambda: _scores(groups, chosen),
        ),
        "forgetting": (
            "What becomes of a task",
            "K(d): score on a task d stages after it was learnt, minus its score then. Below 0 is forgotten." + without,
            lambda: _forgetting(groups, chosen),
        ),
        "learning": (
            "Learning curves",
            "Score on each task while it is learnt, mean over tasks. Dashed: the baseline of FT_auc and ABC, which has "
            f"not seen the tasks before it.{without}",
            lambda: _learning(groups, chosen),
        ),
        "frontier": (
            "What a score costs",
            "AP_final against memory, time of an update and environment steps. The line joins the learners that no "
            "other one beats in both.",
            lambda: _frontier(groups, chosen),
        ),
        "steps-of-d": (
            "Adaptation from a few transitions",
            "Score on held-out tasks after the last stage, against the steps of D that the policy was made from.",
            lambda: _lengths(groups, chosen),
        ),
        "profile": (
            "Performance profile",
            "Share of tasks (of all cells) on which the score after the last stage is at least tau; tasks without a "
            "score are left out.",
            lambda: _profile(groups, chosen),
        ),
        "matrices": (
            "R matrices",
            "R[i, j]: score on task j (across) after stage i (down), mean over cells. What a learner forgets fades "
            f"downward.{older}",
            lambda: _matrices(groups),
        ),
    }
    for name, (title, caption, make) in draw.items():
        with _style():
            figure = make()
        if figure is not None:
            yield Drawn(f"{stream}-{name}", title, caption, figure)


def draw_families(groups: Sequence[Group], learners: Sequence[str], family: str) -> Drawn | None:
    """Scores on the tasks of one family, stage by stage; None where nothing was measured."""
    chosen = pens(learners)
    with _style():
        figure, (left, right) = _panels(2)
        for group in groups:
            for axes, held_out in ((left, False), (right, True)):
                curve = _family_curve(group, family, held_out=held_out)
                if curve.size and np.isfinite(curve).any():
                    chosen[group.learner].over_stages(axes, curve, group, first=0)
        _dress(left, "stage", "score", "tasks of the stream")
        _dress(right, "stage", "", "held-out tasks")
        if not (left.lines or right.lines):
            return None
        _legend(figure)
    title = f"{family} on {groups[0].stream}"
    caption = "Mean score on the family's tasks after each stage, those that are still to come included."
    return Drawn(f"{groups[0].stream}-family-{family}", title, caption, figure)


def _family_curve(group: Group, family: str, *, held_out: bool) -> NDArray[np.float64]:
    """Mean score on a family's tasks [cells, T+1]; empty where a cell has none of them."""
    rows = []
    for cell in group.cells:
        families = cell.held_out if held_out else cell.families
        chosen = [index for index, name in enumerate(families) if name == family]
        if not chosen:
            return np.empty((0, 0))
        rows.append(matrix(cell.H if held_out else cell.R)[:, chosen].mean(axis=1))
    return np.array(rows)


# figures --------------------------------------------------------------------------------------------------------------


def _scores(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure:
    figure, (left, right) = _panels(2)
    for group in groups:
        pen = chosen[group.learner]
        if len(group.ap):
            pen.over_stages(left, group.ap, group, first=1)
        if group.gen.shape[1]:
            pen.over_stages(right, group.gen, group, first=0)
    _dress(left, "stage i", "score", "AP(i): tasks seen so far")
    _dress(right, "stage i", "", "GEN_k(i): held-out tasks")
    _legend(figure)
    return figure


def _forgetting(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    groups = [group for group in groups if group.every == 1]
    if all(group.kept.shape[1] < 2 for group in groups):
        return None
    figure, (axes,) = _panels(1)
    axes.axhline(0.0, color=_FAINT, lw=1)
    for group in groups:
        middle, low, high = bands(group.kept, group.seeds)
        chosen[group.learner].line(axes, np.arange(len(middle)), middle, (low, high))
    _dress(axes, "stages since the task was learnt, d", "change of score, K(d)", "")
    _legend(figure)
    return figure


def _learning(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    told = [group for group in groups if group.every == 1 and len(group.cells[0].curve_x) > 1]
    learning = {group.learner: group.learning() for group in told}
    seeds = {group.learner: group.seeds for group in told}
    units = [unit for unit in ("steps of D", "environment steps") if any(row[3] == unit for row in learning.values())]
    if not units:
        return None
    figure, panels = _panels(len(units))
    for axes, unit in zip(panels, units, strict=True):
        for learner, (x, ours, theirs, its) in learning.items():
            if its != unit or not len(ours):
                continue
            middle, low, high = bands(ours, seeds[learner])
            chosen[learner].line(axes, x, middle, (low, high), markevery=1)
            if len(theirs):
                chosen[learner].line(axes, x, theirs.mean(axis=0), ls="--", lw=1.2, marker="", label="_")
        _dress(axes, unit, "score on the task" if axes is panels[0] else "", "")
    _legend(figure)
    return figure


def _frontier(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure:
    costs = {"MEM": "MEM, bytes", "UPD": "UPD, seconds per stage", "ENV": "ENV, environment steps"}
    figure, panels = _panels(3)
    for axes, (name, label) in zip(panels, costs.items(), strict=True):
        points = []
        for group in groups:
            cost, score = group.metrics.get(name), group.metrics.get("AP_final")
            if cost is None or score is None:
                continue
            bar = None if score.low is None or score.high is None else (score.low, score.high)
            chosen[group.learner].dot(axes, cost.value, score.value, bar)
            points.append((cost.value, score.value))
        front = _pareto(points)
        axes.plot(*zip(*front, strict=True), color=_FAINT, lw=1.2, drawstyle="steps-post", zorder=0) if front else None
        if max((x for x, _ in points), default=0.0) > 10 * min((x for x, _ in points), default=0.0):
            axes.set_xscale("symlog", linthresh=_smallest([x for x, _ in points]))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.15)
        _dress(axes, label, "AP_final" if axes is panels[0] else "", "")
    _legend(figure)
    return figure


def _lengths(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    steps = sorted({step for group in groups for step in group.by_length})
    if len(steps) < 2:
        return None
    figure, (axes,) = _panels(1)
    for group in groups:
        if group.by_length:
            places = [steps.index(step) for step in group.by_length]
            rows = [bands(values[:, None], group.seeds) for values in group.by_length.values()]
            middle, low, high = np.array(rows)[:, :, 0].T
            chosen[group.learner].line(axes, places, middle, (low, high), markevery=1)
    axes.set_xticks(range(len(steps)), [str(step) for step in steps])
    _dress(axes, "steps of D", "score, held-out tasks", "")
    _legend(figure)
    return figure


def _profile(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    taus = np.linspace(-0.25, 1.25, 61)
    figure, (axes,) = _panels(1)
    for group in groups:
        known = np.isfinite(group.final).sum(axis=1)  # a score that is not there is not a low one
        if not known.any():
            continue
        reached = (group.final[known > 0][:, :, None] >= taus).sum(axis=1)
        middle, low, high = bands(reached / known[known > 0, None], np.array(group.seeds)[known > 0].tolist())
        chosen[group.learner].line(axes, taus, middle, (low, high))
    if not axes.lines:
        return None
    axes.set_ylim(-0.02, 1.02)
    _dress(axes, "score tau", "share of tasks with score >= tau", "")
    _legend(figure)
    return figure


def _matrices(groups: Sequence[Group]) -> Figure:
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(2.35 * columns + 0.9, 2.35 * rows + 0.4), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    image = None
    for index, axes in enumerate(panels.flat):
        if index >= len(groups):
            axes.set_visible(False)
            continue
        mean = groups[index].scores.mean(axis=0)
        axes.set_facecolor("#80808030")
        image = axes.imshow(mean, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
        tasks = mean.shape[1]
        ticks = sorted({0, tasks // 2, tasks - 1})
        axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
        axes.set_yticks([0, tasks // 2, tasks], [str(tick) for tick in (0, tasks // 2, tasks)])
        axes.set_title(groups[index].learner, fontsize=9)
        axes.tick_params(labelsize=8, length=2)
    figure.subplots_adjust(left=0.07, right=0.87, top=1 - 0.35 / figure.get_figheight(), hspace=0.45, wspace=0.3)
    figure.subplots_adjust(bottom=0.28 / figure.get_figheight())
    assert image is not None
    bar = figure.colorbar(image, cax=figure.add_axes((0.905, 0.2, 0.015, 0.6)))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    return figure


def _pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other one beats in cost (less) and score (more), by cost."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _smallest(costs: Sequence[float]) -> float:
    """Where a logarithmic axis turns linear, so that a cost of 0 has a place."""
    positive = [cost for cost in costs if cost > 0]
    return min(positive) / 2 if positive else 1.0


# style ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    settings: dict[Any, Any] = {
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": _FAINT,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "font.size": 9,
        "svg.fonttype": "none",
    }
    with rc_context(settings):
        yield


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    width = (_WIDTH if count < 3 else _WIDTH * 0.78) * count + 0.2
    figure = Figure(figsize=(max(width, 4.8), _HEIGHT + 0.5), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    figure.subplots_adjust(left=0.72 / figure.get_figwidth(), right=0.985, top=0.92, bottom=0.3, wspace=0.22)
    return figure, axes


def _dress(axes: Axes, x: str, y: str, title: str) -> None:
    if x.startswith("stage"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="y", color=_FAINT, lw=0.5, alpha=0.4)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure) -> None:
    handles = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 1.3)))
    rows = -(-len(handles) // columns)
    figure.set_figheight(_HEIGHT + 0.2 + 0.19 * rows)
    figure.subplots_adjust(bottom=(0.6 + 0.19 * rows) / figure.get_figheight(), top=1 - 0.28 / figure.get_figheight())
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=2.4
    )


def as_svg(drawn: Drawn) -> bytes:
    """A file of its own, dark on white."""
    text = _svg(drawn)
    return text.encode()


def as_inline_svg(drawn: Drawn) -> str:
    """For inside a page: the page's own colour of text, its width, and learners as classes."""
    text = _svg(drawn)
    text = text[text.index("<svg") :]
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'id="L(\d+)-[\d-]+"', r'class="learner-\1"', text)  # ids would repeat from figure to figure
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"\n\s*", "\n", text)
    return text.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")


def as_png(drawn: Drawn) -> bytes:
    """A picture, dark on white."""
    content = io.BytesIO()
    with rc_context({"savefig.facecolor": "white"}):
        drawn.figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _svg(drawn: Drawn) -> str:
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": drawn.name, "svg.fonttype": "none"}):
        drawn.figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue().decode()
