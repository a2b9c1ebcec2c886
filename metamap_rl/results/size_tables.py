"""Table of policies of different sizes; see `metamap results run deployed-size`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["size_table"]

_COLUMNS = {
    "base policy of this size": "base",
    "expert of this size": "expert",
    "universal-policy": "universal policy, given the truth",
    "mapper": "mapper",
    "estimate": "estimate",
    "sysid": "sysid",
    "context-policy": "context policy",
    "nearest-expert": "nearest expert",
    "mean-expert": "mean expert",
}


def size_table(document: Mapping[str, Any]) -> list[str]:
    """Share of the large gap by size and method, then what the mapper has more than one network for all tasks."""
    sizes = document["sizes"]
    found = [name for name in _COLUMNS if any(name in one["shares"] for one in sizes.values())]
    family = document["family"]
    lines = [
        f"| {family}, hidden units | multiply-adds an action | {' | '.join(_COLUMNS[name] for name in found)} |",
        f"| --- | --- |{' --- |' * len(found)}",
    ]
    for size, one in sizes.items():
        cells = (_share(one["shares"].get(name)) for name in found)
        lines.append(f"| 2 x {size} | {one['multiply_adds']:,} | {' | '.join(cells)} |")
    others = [name for name in _COLUMNS if any(name in one["differences"] for one in sizes.values())]
    lines += [
        "",
        f"| {family}, mapper minus | {' | '.join(_COLUMNS[name] for name in others)} |",
        f"| --- |{' --- |' * len(others)}",
    ]
    for size, one in sizes.items():
        cells = (_share(one["differences"].get(name), sign=True) for name in others)
        lines.append(f"| 2 x {size} | {' | '.join(cells)} |")
    return lines


def _share(entry: Mapping[str, float | None] | None, *, sign: bool = False) -> str:
    if entry is None or entry["share"] is None:
        return "–"
    form = "+.2f" if sign else ".2f"
    if entry["low"] is None or entry["high"] is None:
        return format(entry["share"], form)
    return f"{entry['share']:{form}} [{entry['low']:{form}}, {entry['high']:{form}}]"
