"""The figures of a report for each stream: scores, forgetting, learning, costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from metamap_rl.bench.report.drawing import ReportFigure
from metamap_rl.bench.report.matrices import draw_matrices
from metamap_rl.bench.report.pens import Pen, pens
from metamap_rl.bench.report.sheet import FAINT, Sheet, page_style
from metamap_rl.bench.report.tables import text
from metamap_rl.bench.report.verdict import ONE_SEED
from metamap_rl.bench.result import matrix
from metamap_rl.bench.summary import Group
from metamap_rl.viz.style import short_ticks

__all__ = ["draw_families", "draw_stream"]

_UNITS = {"steps of D": "transitions of D", "environment steps": "environment steps"}
"""Labels of the x axes of learning curves, by `CellResult.curve_unit`."""


def draw_stream(groups: Sequence[Group], learners: Sequence[str]) -> Iterator[ReportFigure]:
    """All figures of one stream.

    Args:
        groups: its learners.
        learners: learners of the whole report, for their numbers.
    """
    chosen, stream = pens(learners, groups), groups[0].stream
    now_and_then = ", ".join(group.learner for group in groups if group.every > 1)
    ends = f" Of {now_and_then}, retrained only now and then, the end alone." if now_and_then else ""
    without = f" Without {now_and_then}, retrained only now and then." if now_and_then else ""
    older = f" Between the retrainings of {now_and_then} scores are those of an older mapper." if now_and_then else ""
    seeds = _seeds(groups)
    draw: dict[str, tuple[str, str, Callable[[], Sheet | None]]] = {
        "scores": (
            "Scores after each stage",
            "Left: AP(i), the mean score on the tasks seen so far. Right: GEN_k(i), on held-out tasks. "
            f"Interquartile mean over cells, as in the tables. {seeds}{ends}",
            lambda: _scores(groups, chosen),
        ),
        "forgetting": (
            "Scores after learning a task",
            f"K(d): score on a task d stages after it was learnt, minus its score then. Below 0 is forgotten. {seeds}"
            + without,
            lambda: _forgetting(groups, chosen),
        ),
        "learning": (
            "Learning curves",
            "Score on each task while it is learnt, mean over tasks. Dashed and thin: the baseline of FT_auc and ABC, "
            f"trained on the task alone. {seeds}{without}",
            lambda: _learning(groups, chosen),
        ),
        "frontier": (
            "Score against costs",
            "AP_final against memory, time of an update and environment steps. The line connects the "
            f"Pareto-optimal learners. {seeds}",
            lambda: _frontier(groups, chosen),
        ),
        "steps-of-d": (
            "Adaptation from a few transitions",
            f"Score on held-out tasks after the last stage, against the number of transitions in D. {seeds}",
            lambda: _lengths(groups, chosen),
        ),
        "profile": (
            "Performance profile",
            "Share of tasks (of all cells) on which the score after the last stage is at least tau; tasks without a "
            f"score are left out. Names by the median score. {seeds}",
            lambda: _profile(groups, chosen),
        ),
        "matrices": (
            "R matrices",
            "R[i, j]: score on task j (across, sorted by family and task, so that a column is the same in every order) "
            "after stage i (down), mean over cells, the best learner first. What a learner forgets fades downward."
            + older,
            lambda: draw_matrices(groups, chosen),
        ),
    }
    for name, (title, caption, make) in draw.items():
        with page_style():
            sheet = make()
        if sheet is not None:
            yield ReportFigure(f"{stream}-{name}", title, caption, sheet)


def draw_families(groups: Sequence[Group], learners: Sequence[str], family: str) -> ReportFigure | None:
    """Scores on the tasks of one family, stage by stage; None if not measured."""
    chosen = pens(learners, groups)
    with page_style():
        sheet = Sheet.in_row(2, [group.learner for group in groups])
        for group in groups:
            for panel, held_out in ((0, False), (1, True)):
                curve = _family_curve(group, family, held_out=held_out)
                if curve.size and np.isfinite(curve).any():
                    sheet.over_stages(panel, chosen[group.learner], curve, group, first=0)
        if not sheet.told:
            return None
        sheet.dress(0, "stage", "score", "tasks of the stream")
        sheet.dress(1, "stage", "", "held-out tasks")
        sheet.name()
    title = f"{family} on {groups[0].stream}"
    caption = "Mean score on the family's tasks after each stage, those that are still to come included. "
    return ReportFigure(f"{groups[0].stream}-family-{family}", title, caption + _seeds(groups), sheet)


def _seeds(groups: Sequence[Group]) -> str:
    """What bands and faint lines are, in a sentence."""
    if len({seed for group in groups for seed in group.seeds}) == 1:
        return ONE_SEED
    return "Bands: 95 % bootstrap intervals over seeds; faint: each cell."


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


def _scores(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet:
    sheet = Sheet.in_row(2, [group.learner for group in groups])
    for group in groups:
        pen = chosen[group.learner]
        if len(group.ap):
            sheet.over_stages(0, pen, group.ap, group, first=1)
        if group.gen.shape[1]:
            sheet.over_stages(1, pen, group.gen, group, first=0)
    sheet.dress(0, "stage i", "score", "AP(i): tasks seen so far")
    sheet.dress(1, "stage i", "", "GEN_k(i): held-out tasks")
    sheet.name()
    return sheet


def _forgetting(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet | None:
    groups = [group for group in groups if group.every == 1]
    if all(group.kept.shape[1] < 2 for group in groups):
        return None
    sheet = Sheet.in_row(1, [group.learner for group in groups])
    sheet.panels[0].axhline(0.0, color=FAINT, lw=1)
    for group in groups:
        stages = np.arange(group.kept.shape[1])
        sheet.curve(0, chosen[group.learner], stages, group.kept, group.seeds, of="stages since")
    sheet.dress(0, "stages since the task was learnt", "change of the score", "K(d)")
    sheet.name()
    return sheet


def _learning(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet | None:
    told = [group for group in groups if group.every == 1 and len(group.cells[0].curve_x) > 1]
    learning = {group.learner: group.learning() for group in told}
    units = [unit for unit in _UNITS if any(row[3] == unit and len(row[1]) for row in learning.values())]
    if not units:
        return None
    sheet = Sheet.in_row(len(units), [group.learner for group in told])
    for panel, unit in enumerate(units):
        for group in told:
            x, ours, theirs, its = learning[group.learner]
            if its != unit or not len(ours):
                continue
            at = [f"{value:,.0f} {_UNITS[unit]}" for value in x]
            sheet.curve(panel, chosen[group.learner], x, ours, group.seeds, of="after", at=at)
            if len(theirs):
                sheet.dashed(panel, chosen[group.learner], x, theirs.mean(axis=0), "trained on the task alone")
        sheet.dress(panel, _UNITS[unit], "" if panel else "score on the task", "")
        if unit == "environment steps":
            sheet.panels[panel].xaxis.set_major_formatter(EngFormatter(sep=""))
    sheet.name()
    return sheet


def _frontier(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet:
    costs = {"MEM": "MEM, bytes", "UPD": "UPD, seconds per stage", "ENV": "ENV, environment steps"}
    sheet = Sheet.in_row(3)
    for panel, (name, label) in enumerate(costs.items()):
        axes, points = sheet.panels[panel], []
        for group in groups:
            cost, score = group.metrics.get(name), group.metrics.get("AP_final")
            if cost is None or score is None:
                continue
            pen = chosen[group.learner]
            told = f"{name} {text(name, cost)[0]}, AP_final {' '.join(text('AP_final', score)).strip()}"
            sheet.point(panel, pen, cost.value, (score.value, score.low, score.high), told)
            both = [key for key in group.values[name] if key in group.values["AP_final"]]
            sheet.dots(panel, pen, *([group.values[of][key] for key in both] for of in (name, "AP_final")))
            points.append((cost.value, score.value))
        front = _pareto(points)
        axes.plot(*zip(*front, strict=True), color=FAINT, lw=1.2, drawstyle="steps-post", zorder=0) if front else None
        least, most = (least_or_most((x for x, _ in points), default=0.0) for least_or_most in (min, max))
        if least > 0 and most > 10 * least:
            axes.set_xscale("log")
        elif most > 10 * least:
            axes.set_xscale("symlog", linthresh=_smallest([x for x, _ in points]))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.35, y=0.12)
        sheet.dress(panel, label, "" if panel else "AP_final", "")
        sheet.name_points(panel)
    return sheet


def _lengths(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet | None:
    steps = sorted({step for group in groups for step in group.by_length})
    if len(steps) < 2:
        return None
    sheet = Sheet.in_row(1, [group.learner for group in groups])
    for group in groups:
        if group.by_length:
            places = [steps.index(step) for step in group.by_length]
            rows = np.stack(list(group.by_length.values()), axis=1)
            at = [f"{step} transitions" for step in group.by_length]
            sheet.curve(0, chosen[group.learner], places, rows, group.seeds, of="from", at=at)
    sheet.panels[0].set_xticks(range(len(steps)), [str(step) for step in steps])
    sheet.dress(0, "transitions in D", "score, held-out tasks", "")
    sheet.name()
    return sheet


def _profile(groups: Sequence[Group], chosen: dict[str, Pen]) -> Sheet | None:
    taus = np.round(np.linspace(-0.25, 1.25, 61), 3)
    sheet = Sheet.in_row(1, [group.learner for group in groups])
    for group in groups:
        known = np.isfinite(group.final).sum(axis=1)  # a missing score is not a low one
        if not known.any():
            continue
        reached = (group.final[known > 0][:, :, None] >= taus).sum(axis=1)
        seeds = np.array(group.seeds)[known > 0].tolist()
        sheet.curve(0, chosen[group.learner], taus, reached / known[known > 0, None], seeds, of="tau")
    if not sheet.told:
        return None
    sheet.panels[0].set_ylim(-0.02, 1.02)
    sheet.dress(0, "score tau", "share of tasks with score >= tau", "")
    short_ticks(sheet.panels[0].xaxis)
    medians = {group.learner: float(np.nanmedian(group.final)) for group in groups if np.isfinite(group.final).any()}
    sheet.key(0, sorted(map(chosen.__getitem__, medians), key=lambda pen: -medians[pen.name]))
    return sheet


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
