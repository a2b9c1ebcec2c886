"""Table of few-shot classification of sentences, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["text_table"]

_SHOTS = ("1", "5", "10")


def text_table(document: Mapping[str, Any]) -> list[str]:
    """Accuracy by sentences of each class: all numbers of classes, two and five of them; and the mappers' lead."""
    heads = [f"{count} of each" for count in _SHOTS]
    heads += [f"{ways} classes: {count}" for ways in (2, 5) for count in _SHOTS]
    heads += [f"mapper ahead by, {count}" for count in _SHOTS]
    lines = [f"| accuracy | runs | {' | '.join(heads)} |", "| --- | --- |" + " --- |" * len(heads)]
    for method, of in sorted(document["rows"].items(), key=lambda row: not row[0].startswith("mapper")):
        cells = [_cell(of.get(count, {}).get("all")) for count in _SHOTS]
        cells += [_short(of.get(count, {}).get(ways)) for ways in ("2", "5") for count in _SHOTS]
        cells += [_cell(document["ahead"].get(method, {}).get(count), "+") for count in _SHOTS]
        lines.append(f"| {method} | {document['runs'][method]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(found: Sequence[float] | None, sign: str = "") -> str:
    if found is None:
        return "–"
    mean, low, high = (f"{value:{sign}.3f}" for value in found)
    return f"{mean} [{low}, {high}]"


def _short(found: Sequence[float] | None) -> str:
    return "–" if found is None else f"{found[0]:.3f}"
