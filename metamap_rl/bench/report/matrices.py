"""R matrices of learners as heat maps, with their tasks in bands of families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from metamap_rl.bench.report.hover import Grid
from metamap_rl.bench.report.pens import Pen
from metamap_rl.bench.report.sheet import INK, Sheet
from metamap_rl.bench.summary import Group
from metamap_rl.viz.style import short_ticks

__all__ = ["draw_matrices", "family_bands"]

_ACROSS = 4  # panels in a row
_SMALL = 6.5  # points, of families' names


def draw_matrices(groups: Sequence[Group], chosen: Mapping[str, Pen]) -> Sheet:
    """The mean R of each learner, the best at the end first; scores outside [0, 1] are cut."""
    ordered = sorted(groups, key=lambda group: -_final(group))
    sheet = Sheet.in_grid(len(ordered), _ACROSS)
    families = sorted(groups[0].cells[0].families)
    image = None
    for index, (group, axes) in enumerate(zip(ordered, sheet.panels[:-1], strict=True)):
        mean = group.sorted_scores.mean(axis=0)
        axes.set_facecolor("#80808030")
        image = axes.imshow(mean, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
        _label(axes, mean.shape[1])
        _bands(axes, families, named=index < _ACROSS)
        axes.set_title(group.learner, fontsize=9, loc="left", pad=22 if index < _ACROSS else 4)
        number = chosen[group.learner].number
        axes.set_gid(f"L{number}-matrix")
        sheet.told.append(Grid(axes, number, mean, families))
    assert image is not None
    bar = sheet.figure.colorbar(image, cax=sheet.panels[-1])
    short_ticks(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    return sheet


def family_bands(families: Sequence[str]) -> list[tuple[str, int, int]]:
    """(family, first, last) of runs of tasks of one family."""
    found: list[tuple[str, int, int]] = []
    for index, family in enumerate(families):
        if found and found[-1][0] == family:
            found[-1] = (family, found[-1][1], index)
        else:
            found.append((family, index, index))
    return found


def _final(group: Group) -> float:
    score = group.metrics.get("AP_final")
    return -np.inf if score is None else score.value


def _label(axes: Axes, tasks: int) -> None:
    ticks = sorted({0, tasks // 2, tasks - 1})
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
    axes.set_yticks([0, tasks // 2, tasks], [str(tick) for tick in (0, tasks // 2, tasks)])
    axes.tick_params(labelsize=8, length=2)


def _bands(axes: Axes, families: Sequence[str], *, named: bool) -> None:
    """Lines between families, and their names above."""
    found, place = family_bands(families), axes.get_xaxis_transform()
    for family, first, last in found:
        if first:
            axes.axvline(first - 0.5, color="white", lw=1.4)
        if not named:
            continue
        axes.plot((first - 0.42, last + 0.42), (1.03, 1.03), color=INK, lw=1.2, transform=place, clip_on=False)
        words = family.replace("-", "-\n", 1) if len(found) > 1 else family
        style: dict[str, Any] = {"fontsize": _SMALL, "ha": "center", "va": "bottom", "linespacing": 0.95}
        axes.annotate(words, ((first + last) / 2, 1.05), xycoords=place, parse_math=False, **style)
