"""Colours, markers and dashes of learners: the same in all figures and all reports."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from metamap_rl.bench.summary import Group
from metamap_rl.viz.style import BLUE, COLOURS, GOLD, GREEN, GREY, ORANGE, PURPLE

__all__ = ["LEGEND", "Pen", "pens"]

LEGEND = (
    "A colour is a kind of learner in every report: blue replays stored transitions, orange holds parameters, purple "
    "holds outputs, green looks up stored experts, gold learns from reward alone, grey is a bound."
)

_SOLID, _DASHED, _DOTTED = "-", (0, (4, 1.5)), (0, (1.2, 1.2))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_REWARD = "sb3"

_STYLES: dict[str, tuple[str, str, object]] = {
    "replay": (BLUE, "o", _SOLID),
    "reservoir": (BLUE, "s", _DASHED),
    "agem": (BLUE, "^", _DOTTED),
    "ewc": (ORANGE, "s", _SOLID),
    "l2": (ORANGE, "D", _DASHED),
    "packnet": (ORANGE, "v", _DOTTED),
    "output-regularisation": (PURPLE, "P", _SOLID),
    "distillation": (PURPLE, "X", _DASHED),
    "likeliest": (GREEN, "^", _SOLID),
    "nearest": (GREEN, "D", _DASHED),
    "joint": (GREY, "s", _SOLID),
    "perfect-memory": (GREY, "D", _DASHED),
    "finetune": (GREY, "v", _DOTTED),
    "untrained": (GREY, "o", _DASHED),
    f"{_REWARD} ppo": (GOLD, "*", _SOLID),
    f"{_REWARD} sac": (GOLD, "P", _DASHED),
}
"""Of bundled learners; any other has those that its name draws."""


@dataclass(frozen=True)
class Pen:
    """Line style of a learner.

    Attributes:
        number: of the learner among all of the report.
        name: of the learner.
        colour: of lines, points and its name.
        marker: of points.
        dash: of lines, matplotlib's ``linestyle``.
    """

    number: int
    name: str
    colour: str
    marker: str
    dash: object


def pens(learners: Sequence[str], groups: Sequence[Group]) -> dict[str, Pen]:
    """A pen for each learner of a report.

    Args:
        learners: all names, in the order of the report.
        groups: their results, whose config tells what a learner is, whatever it is called.
    """
    kinds = {group.learner: _kind(group) for group in groups}
    return {name: Pen(number, name, *_style(name, kinds.get(name, name))) for number, name in enumerate(learners)}


def _kind(group: Group) -> str:
    """What a learner is: a name of `_STYLES`, or its own."""
    settings = group.cells[0].config.get("learner", {})
    if settings.get(_REWARD):
        return f"{_REWARD} {settings[_REWARD]}"
    return str(settings.get("name") or group.learner)


def _style(name: str, kind: str) -> tuple[str, str, object]:
    """Colour, marker and dash; drawn by a checksum of the name where the kind has none."""
    draw = zlib.crc32(name.encode())
    marker, dash = _MARKERS[draw // 5 % len(_MARKERS)], (_SOLID, _DASHED, _DOTTED)[draw // 50 % 3]
    if kind.startswith(_REWARD) and kind not in _STYLES:
        return GOLD, marker, dash
    if kind not in _STYLES:
        return COLOURS[draw % len(COLOURS)], marker, dash
    colour, own_marker, own_dash = _STYLES[kind]
    usual = name in (kind, kind.removeprefix(f"{_REWARD} "))  # else it is the second one of its kind, perhaps
    return (colour, own_marker, own_dash) if usual else (colour, marker, dash)
