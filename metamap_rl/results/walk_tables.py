"""Table of the walks of legged robots, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["walks_table"]

_COLUMNS = {
    "success": ("success", 2),
    "distances": ("distance, m", 1),
    "seconds": ("time to fall or end, s", 1),
    "returns": ("return", 0),
    "share_of_succeeded": ("share of success", 2),
    "share_of_returns": ("share of return", 2),
}


def walks_table(document: Mapping[str, Any]) -> list[str]:
    """Means and shares with their intervals, of each pilot in each condition."""
    titles = [title for title, _ in _COLUMNS.values()]
    lines = [f"| condition | pilot | {' | '.join(titles)} |", "| --- | --- |" + " --- |" * len(titles)]
    for condition, pilots in document["conditions"].items():
        for pilot, found in pilots.items():
            cells = [_cell(found.get(name), digits) for name, (_, digits) in _COLUMNS.items()]
            lines.append(f"| {condition} | {pilot} | {' | '.join(cells)} |")
    return lines


def _cell(entry: Mapping[str, float | None] | None, digits: int) -> str:
    """An estimate with its interval, if it has one."""
    if entry is None:
        return ""
    found = [entry[name] for name in ("estimate", "low", "high")]
    estimate, low, high = (None if value is None else f"{value:.{digits}f}" for value in found)
    return f"{estimate}" if low is None else f"{estimate} ({low}-{high})"
