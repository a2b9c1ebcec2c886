"""Table of the flights of quadrotors, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flights_table"]


def flights_table(document: Mapping[str, Any]) -> list[str]:
    """Survival, and position errors of those that survived, of each pilot in each condition."""
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
    return lines


def _errors(found: Mapping[str, float] | None, factor: float, digits: int) -> list[str]:
    """Mean with its interval, and median; nothing where none survived."""
    if found is None:
        return ["", ""]
    mean, low, high = (f"{factor * found[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return [f"{mean} ({low}-{high})", f"{factor * found['median']:.{digits}f}"]
