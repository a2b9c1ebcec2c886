"""Table of mappers that were trained on different D, by the origin of the D that they read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["reading_table", "sources_table"]


def sources_table(result: Mapping[str, Any]) -> list[str]:
    """One row for each origin of D, recipe and method: IQM of the gap closed, and the worst decile in brackets."""
    lengths = result["settings"]["lengths"]
    lines = [
        f"| D from | trained on | method | {' | '.join(f'{length} transitions' for length in lengths)} |",
        f"| --- | --- | --- |{' --- |' * len(lengths)}",
    ]
    for origin in result["settings"]["d_from"]:
        for recipe, origins in result["recipes"].items():
            entries = origins[origin]["methods"]
            for method in dict.fromkeys(entry["method"] for entry in entries):
                found = {entry["steps"]: entry["gap_closed"] for entry in entries if entry["method"] == method}
                cells = (_gap(found.get(length, found.get(None))) for length in lengths)
                lines.append(f"| {origin} | {recipe} | {method} | {' | '.join(cells)} |")
    return [*lines, *_differences_table(result.get("differences", {}), lengths)]


def _differences_table(differences: Mapping[str, Any], lengths: Sequence[int]) -> list[str]:
    """Paired differences of the mapper's gap closed that are not of a thing to itself; nothing without any."""
    rows = {}
    for recipe, origins in differences.items():
        for origin, by_length in origins.items():
            for other in next(iter(by_length.values()), {}):
                if other not in (f"minus D of {origin}", f"minus trained on {recipe}"):
                    found = (by_length.get(str(length), {}).get(other) for length in lengths)
                    rows[f"{origin}, {recipe}, {other}"] = [_difference(entry) for entry in found]
    if not rows:
        return []
    header = f"| paired difference, mean [95 %] | {' | '.join(f'{length} transitions' for length in lengths)} |"
    return [
        "",
        header,
        f"| --- |{' --- |' * len(lengths)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def _difference(entry: Mapping[str, float] | None) -> str:
    return "–" if entry is None else f"{entry['mean']:+.2f} [{entry['low']:+.2f}, {entry['high']:+.2f}]"


def _gap(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else f"{entry['iqm']:.2f} ({entry['worst_decile']:.2f})"


def reading_table(result: Mapping[str, Any]) -> list[str]:
    """Root mean square of the errors over tasks, in standard deviations: one row for each origin, noise and reader."""
    lengths = [str(length) for length in result["settings"]["lengths"]]
    lines = [f"| D from | noise | read by | {' | '.join(lengths)} |", f"| --- | --- | --- |{' --- |' * len(lengths)}"]
    for origin, levels in result["errors"].items():
        for level, readers in levels.items():
            for reader, found in readers.items():
                cells = (f"{math.sqrt(sum(found[length]) / len(found[length])):.2f}" for length in lengths)
                lines.append(f"| {origin} | {float(level):.0%} | {reader} | {' | '.join(cells)} |")
    return lines
