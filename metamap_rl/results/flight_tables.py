"""Tables of the flights of quadrotors, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flights_table"]


def flights_table(document: Mapping[str, Any]) -> list[str]:
    """Survival, and position errors of those that survived, of each pilot in each condition; differences to rivals."""
    lines = [
        "| condition | pilot | survival | error, cm: mean | median | error, arm lengths: mean | median | return |",
        "| --- | --- |" + " --- |" * 6,
    ]
    for condition, pilots in document["conditions"].items():
        for pilot, found in pilots.items():
            survival = found["survival"]
            cells = [f"{survival['estimate']:.2f} ({survival['low']:.2f}-{survival['high']:.2f})"]
            for name, factor, digits in (("metres", 100.0, 1), ("arms", 1.0, 2)):
                cells += _errors(found[name], factor, digits)
            lines.append(f"| {condition} | {pilot} | {' | '.join(cells)} | {found['return']:.0f} |")
    return lines + _differences(document["conditions"])


def _differences(conditions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Differences to rivals on the same vehicles; nothing for documents that hold none."""
    rivals = list(
        dict.fromkeys(rival for one in conditions.values() for row in one.values() for rival in row.get("minus", {}))
    )
    if not rivals:
        return []
    header = ["condition", "pilot"]
    header += [f"{what}: minus {rival}" for rival in rivals for what in ("survival", "error, cm")]
    lines = ["", f"| {' | '.join(header)} |", "| --- |" + " --- |" * (len(header) - 1)]
    for condition, pilots in conditions.items():
        for pilot, found in pilots.items():
            cells = []
            for rival in rivals:
                one = found["minus"].get(rival) or {"survival": None, "metres": None}
                cells += [_difference(one["survival"], 1.0, 2), _difference(one["metres"], 100.0, 1)]
            lines.append(f"| {condition} | {pilot} | {' | '.join(cells)} |")
    return lines


def _difference(found: Mapping[str, float] | None, factor: float, digits: int) -> str:
    if found is None:
        return ""
    mean, low, high = (f"{factor * found[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _errors(found: Mapping[str, float] | None, factor: float, digits: int) -> list[str]:
    """Mean with its interval, and median; nothing where none survived."""
    if found is None:
        return ["", ""]
    mean, low, high = (f"{factor * found[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return [f"{mean} ({low}-{high})", f"{factor * found['median']:.{digits}f}"]
