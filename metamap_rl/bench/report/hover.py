"""What the page tells of a figure under the pointer: values at points of curves, and in cells of heat maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["Grid", "Trace", "hover"]

_POINTS = 72  # of an inch: units of an SVG


@dataclass(frozen=True)
class Trace:
    """What the page tells of a curve or of points under the pointer.

    Attributes:
        axes: the panel.
        learner: number of the learner.
        x: in data coordinates [n].
        y: in data coordinates [n].
        texts: of each point [n], without the learner's name.
    """

    axes: Axes
    learner: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    texts: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """What the page tells of a learner's heat map under the pointer.

    Attributes:
        axes: the panel.
        learner: number of the learner.
        values: scores [T+1, T].
        families: of the tasks [T].
    """

    axes: Axes
    learner: int
    values: NDArray[np.float64]
    families: Sequence[str]


def hover(figure: Figure, told: Iterable[Trace | Grid]) -> dict[str, Any]:
    """Places and texts in units of the figure's SVG, as JSON values; what is not finite is left out."""
    scale, height = _POINTS / figure.dpi, _POINTS * figure.get_figheight()
    traces, grids = [], []
    for one in told:
        if isinstance(one, Grid):
            left, bottom, right, top = np.asarray(one.axes.get_window_extent().extents) * scale
            box = [round(float(at), 1) for at in (left, height - top, right, height - bottom)]
            values = [[None if np.isnan(value) else round(value, 3) for value in row] for row in one.values.tolist()]
            grids.append({"n": one.learner, "box": box, "v": values, "f": list(one.families)})
            continue
        known = np.flatnonzero(np.isfinite(one.y)).tolist()
        points = one.axes.transData.transform(np.column_stack([one.x[known], one.y[known]])) * scale
        places = np.round(np.column_stack([points[:, 0], height - points[:, 1]]), 1).tolist()
        traces.append({"n": one.learner, "at": places, "t": [one.texts[index] for index in known]})
    return {"traces": traces, "grids": grids}
