"""Names beside what they name, in place of legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

__all__ = ["Key", "Name", "name_ends", "name_lines", "name_points"]

_GAP = 1.15  # lines of text between two names
_AWAY = 8  # points from the axes to the names
_NEAR = 7  # points from a point to its name
_LEADER = {"arrowstyle": "-", "lw": 0.6, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
_POINTS = 72  # of an inch


@dataclass(frozen=True)
class Name:
    """The name of a curve or a point.

    Attributes:
        text: the name, of one line or several.
        y: where the curve ends or the point is, in data coordinates.
        colour: of the curve.
        gid: of the name in an SVG; "" for none.
        x: where the point is, for `name_points`.
    """

    text: str
    y: float
    colour: str
    gid: str = ""
    x: float = np.nan


@dataclass(frozen=True)
class Key:
    """The name of a line with its style.

    Attributes:
        text: the name.
        colour: of the line.
        dash: of the line; "" for a marker alone.
        marker: of the line; "" for none.
        gid: of the name and its line in an SVG; "" for none.
    """

    text: str
    colour: str
    dash: Any = "-"
    marker: str = ""
    gid: str = ""


def name_ends(axes: Axes, names: Sequence[Name], *, size: float = 8.0) -> None:
    """Write names to the right of a panel at the heights of their curves' ends, moved apart, with a thin line to each.

    The limits of the y axis must be final. The caller leaves room on the right.

    Args:
        axes: the panel.
        names: in any order; those whose end is not finite come last.
        size: of the font in points.
    """
    if not names:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    box = axes.get_position()
    height = box.height * figure.get_figheight() * 72  # points
    low, high = axes.get_ylim()
    ends = np.array([(name.y - low) / (high - low) * height if np.isfinite(name.y) else -1.0 for name in names])
    order = np.argsort(-np.clip(ends, 0, height), kind="stable")
    gap = min(_GAP * size, max(height / max(len(names) - 1, 1), 0.8 * size))
    places = _apart(np.clip(ends[order], 0, height), gap, height)
    for index, place in zip(order, places, strict=True):
        name, end = names[index], ends[index]
        wide = box.width * figure.get_figwidth() * 72
        start = (1 + 1 / wide, float(np.clip(end, 0, height)) / height)
        written = axes.annotate(
            name.text,
            xy=start,
            xytext=(1 + _AWAY / wide, place / height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=name.colour,
            fontsize=size,
            va="center",
            ha="left",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": name.colour,
                "lw": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )
        if name.gid:
            written.set_gid(name.gid)
            assert written.arrow_patch is not None
            written.arrow_patch.set_gid(f"{name.gid}-line")


def _apart(wanted: NDArray[np.float64], gap: float, height: float) -> list[float]:
    """Heights, given from the top downward, moved so that neighbours are ``gap`` apart: blocks around their means."""
    blocks: list[tuple[float, int]] = []  # mean of the wanted heights, and how many
    for place in wanted:
        block = (float(place), 1)
        while blocks and blocks[-1][0] - block[0] < gap * (blocks[-1][1] + block[1]) / 2:
            mean, count = blocks.pop()
            block = ((mean * count + block[0] * block[1]) / (count + block[1]), count + block[1])
        blocks.append(block)
    found = [mean + gap * ((count - 1) / 2 - index) for mean, count in blocks for index in range(count)]
    over = max(0.0, found[0] - height)
    return [place - over for place in found]


def name_lines(axes: Axes, keys: Sequence[Key], *, size: float = 8.0) -> None:
    """Write names with a piece of their lines to the right of a panel, from the top: where curves end tells nothing.

    Args:
        axes: the panel.
        keys: from the top.
        size: of the font in points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    wide, high = np.asarray(axes.get_window_extent().size) * _POINTS / figure.dpi
    for index, key in enumerate(keys):
        y = 1 - (index + 0.5) * 1.25 * size / high
        (line,) = axes.plot(
            [1 + away / wide for away in (6, 15, 24)],
            [y] * 3,
            color=key.colour,
            ls=key.dash,
            lw=1.7,
            marker=key.marker,
            markevery=[1],
            ms=4,
            transform=axes.transAxes,
            clip_on=False,
            label="_",
        )
        style: dict[str, Any] = {"color": key.colour, "fontsize": size, "va": "center"}
        written = axes.annotate(key.text, (1 + 28 / wide, y), xycoords="axes fraction", **style)
        if key.gid:
            line.set_gid(f"{key.gid}-line")
            written.set_gid(key.gid)


def name_points(axes: Axes, names: Sequence[Name], *, size: float = 8.0) -> None:
    """Write names beside points of a panel, each on the side where it covers least.

    The limits of the axes must be final.

    Args:
        axes: the panel.
        names: with ``x`` and ``y`` of the points.
        size: of the font in points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = _POINTS / figure.dpi
    places = [axes.transData.transform((name.x, name.y)) * scale for name in names]
    taken: list[Any] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    inside = np.asarray(axes.get_window_extent().extents) * scale
    for index in sorted(range(len(names)), key=lambda index: -places[index][1]):
        name, (x, y) = names[index], places[index]
        wide, high = 0.55 * size * len(name.text), 1.2 * size
        boxes = [_beside(x, y, wide, high, turn, right=right) for turn in (0, 1, -1, 2, -2) for right in (True, False)]
        best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken) + 9 * _outside(box, inside))
        taken.append(best)
        right = best[0] > x
        written = axes.annotate(
            name.text,
            xy=(name.x, name.y),
            xytext=(_NEAR if right else -_NEAR, (best[1] + best[3]) / 2 - y),
            textcoords="offset points",
            color=name.colour,
            fontsize=size,
            ha="left" if right else "right",
            va="center",
        )
        if name.gid:
            written.set_gid(name.gid)


_Box = tuple[float, float, float, float]


def _beside(x: float, y: float, wide: float, high: float, turn: int, *, right: bool) -> _Box:
    """A box of a name beside a point, ``turn`` half lines up."""
    left, bottom = (x + _NEAR if right else x - _NEAR - wide), y - high / 2 + turn * 0.6 * high
    return left, bottom, left + wide, bottom + high


def _overlap(one: _Box, other: Any) -> float:
    wide = float(min(one[2], other[2]) - max(one[0], other[0]))
    high = float(min(one[3], other[3]) - max(one[1], other[1]))
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: _Box, inside: Any) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, inside)
