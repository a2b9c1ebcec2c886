"""The figures of a report for each stream: scores, forgetting, learning, costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from metamap_rl.bench.report.drawing import (
    DPI,
    FAINT,
    Pen,
    ReportFigure,
    add_legend,
    dress,
    make_panels,
    page_style,
    pens,
)
from metamap_rl.bench.result import matrix
from metamap_rl.bench.summary import Group, bands

__all__ = ["draw_families", "draw_stream"]


def draw_stream(groups: Sequence[Group], learners: Sequence[str]) -> Iterator[ReportFigure]:
    """All figures of one stream.

    Args:
        groups: its learners.
        learners: learners of the whole report, for colours.
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
            "Interquartile mean over cells, as in the tables, with a 95 % bootstrap interval over seeds; faint: each "
            f"cell.{ends}",
            lambda: _scores(groups, chosen),
        ),
        "forgetting": (
            "Scores after learning a task",
            "K(d): score on a task d stages after it was learnt, minus its score then. Below 0 is forgotten." + without,
            lambda: _forgetting(groups, chosen),
        ),
        "learning": (
            "Learning curves",
            "Score on each task while it is learnt, mean over tasks. Dashed: the baseline of FT_auc and ABC, "
            f"trained on the task alone.{without}",
            lambda: _learning(groups, chosen),
        ),
        "frontier": (
            "Score against costs",
            "AP_final against memory, time of an update and environment steps. The line connects the "
            "Pareto-optimal learners.",
            lambda: _frontier(groups, chosen),
        ),
        "steps-of-d": (
            "Adaptation from a few transitions",
            "Score on held-out tasks after the last stage, against the number of transitions in D.",
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
            "R[i, j]: score on task j (across, sorted by family and task, so that a column is the same in every order) "
            f"after stage i (down), mean over cells. What a learner forgets fades downward.{older}",
            lambda: _matrices(groups),
        ),
    }
    for name, (title, caption, make) in draw.items():
        with page_style():
            figure = make()
        if figure is not None:
            yield ReportFigure(f"{stream}-{name}", title, caption, figure)


def draw_families(groups: Sequence[Group], learners: Sequence[str], family: str) -> ReportFigure | None:
    """Scores on the tasks of one family, stage by stage; None if not measured."""
    chosen = pens(learners)
    with page_style():
        figure, (left, right) = make_panels(2)
        for group in groups:
            for axes, held_out in ((left, False), (right, True)):
                curve = _family_curve(group, family, held_out=held_out)
                if curve.size and np.isfinite(curve).any():
                    chosen[group.learner].over_stages(axes, curve, group, first=0)
        dress(left, "stage", "score", "tasks of the stream")
        dress(right, "stage", "", "held-out tasks")
        if not (left.lines or right.lines):
            return None
        add_legend(figure)
    title = f"{family} on {groups[0].stream}"
    caption = "Mean score on the family's tasks after each stage, those that are still to come included."
    return ReportFigure(f"{groups[0].stream}-family-{family}", title, caption, figure)


def _family_curve(group: Group, family: str, *, held_out: bool) -> NDArray[np.float64]:
    """Mean score on a family's tasks [cells, T+1]; empty if a cell has none of them."""
    rows = []
    for cell in group.cells:
        families = cell.held_out if held_out else cell.families
        chosen = [index for index, name in enumerate(families) if name == family]
        if not chosen:
            return np.empty((0, 0))
        rows.append(matrix(cell.H if held_out else cell.R)[:, chosen].mean(axis=1))
    return np.array(rows)


def _scores(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure:
    figure, (left, right) = make_panels(2)
    for group in groups:
        pen = chosen[group.learner]
        if len(group.ap):
            pen.over_stages(left, group.ap, group, first=1)
        if group.gen.shape[1]:
            pen.over_stages(right, group.gen, group, first=0)
    dress(left, "stage i", "score", "AP(i): tasks seen so far")
    dress(right, "stage i", "", "GEN_k(i): held-out tasks")
    add_legend(figure)
    return figure


def _forgetting(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    groups = [group for group in groups if group.every == 1]
    if all(group.kept.shape[1] < 2 for group in groups):
        return None
    figure, (axes,) = make_panels(1)
    axes.axhline(0.0, color=FAINT, lw=1)
    for group in groups:
        middle, low, high = bands(group.kept, group.seeds)
        chosen[group.learner].line(axes, np.arange(len(middle)), middle, (low, high))
    dress(axes, "stages since the task was learnt, d", "change of score, K(d)", "")
    add_legend(figure)
    return figure


def _learning(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    told = [group for group in groups if group.every == 1 and len(group.cells[0].curve_x) > 1]
    learning = {group.learner: group.learning() for group in told}
    seeds = {group.learner: group.seeds for group in told}
    units = [unit for unit in ("steps of D", "environment steps") if any(row[3] == unit for row in learning.values())]
    if not units:
        return None
    figure, panels = make_panels(len(units))
    for axes, unit in zip(panels, units, strict=True):
        for learner, (x, ours, theirs, its) in learning.items():
            if its != unit or not len(ours):
                continue
            middle, low, high = bands(ours, seeds[learner])
            chosen[learner].line(axes, x, middle, (low, high), markevery=1)
            if len(theirs):
                chosen[learner].line(axes, x, theirs.mean(axis=0), ls="--", lw=1.2, marker="", label="_")
        dress(axes, unit, "score on the task" if axes is panels[0] else "", "")
    add_legend(figure)
    return figure


def _frontier(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure:
    costs = {"MEM": "MEM, bytes", "UPD": "UPD, seconds per stage", "ENV": "ENV, environment steps"}
    figure, panels = make_panels(3)
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
        axes.plot(*zip(*front, strict=True), color=FAINT, lw=1.2, drawstyle="steps-post", zorder=0) if front else None
        if max((x for x, _ in points), default=0.0) > 10 * min((x for x, _ in points), default=0.0):
            axes.set_xscale("symlog", linthresh=_smallest([x for x, _ in points]))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.15)
        dress(axes, label, "AP_final" if axes is panels[0] else "", "")
    add_legend(figure)
    return figure


def _lengths(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    steps = sorted({step for group in groups for step in group.by_length})
    if len(steps) < 2:
        return None
    figure, (axes,) = make_panels(1)
    for group in groups:
        if group.by_length:
            places = [steps.index(step) for step in group.by_length]
            rows = [bands(values[:, None], group.seeds) for values in group.by_length.values()]
            middle, low, high = np.array(rows)[:, :, 0].T
            chosen[group.learner].line(axes, places, middle, (low, high), markevery=1)
    axes.set_xticks(range(len(steps)), [str(step) for step in steps])
    dress(axes, "steps of D", "score, held-out tasks", "")
    add_legend(figure)
    return figure


def _profile(groups: Sequence[Group], chosen: dict[str, Pen]) -> Figure | None:
    taus = np.linspace(-0.25, 1.25, 61)
    figure, (axes,) = make_panels(1)
    for group in groups:
        known = np.isfinite(group.final).sum(axis=1)  # a missing score is not a low one
        if not known.any():
            continue
        reached = (group.final[known > 0][:, :, None] >= taus).sum(axis=1)
        middle, low, high = bands(reached / known[known > 0, None], np.array(group.seeds)[known > 0].tolist())
        chosen[group.learner].line(axes, taus, middle, (low, high))
    if not axes.lines:
        return None
    axes.set_ylim(-0.02, 1.02)
    dress(axes, "score tau", "share of tasks with score >= tau", "")
    add_legend(figure)
    return figure


def _matrices(groups: Sequence[Group]) -> Figure:
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(2.35 * columns + 0.9, 2.35 * rows + 0.4), dpi=DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    image = None
    for index, axes in enumerate(panels.flat):
        if index >= len(groups):
            axes.set_visible(False)
            continue
        mean = groups[index].sorted_scores.mean(axis=0)
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
    """Pareto-optimal points (lower cost, higher score), by cost."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _smallest(costs: Sequence[float]) -> float:
    """Threshold at which a symmetric-log axis becomes linear, to include a cost of 0."""
    positive = [cost for cost in costs if cost > 0]
    return min(positive) / 2 if positive else 1.0
