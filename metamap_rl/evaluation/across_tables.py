"""Tables of methods over several zoos of a family, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metamap_rl.evaluation.score_text import (
    NOTHING,
    harm_text,
    interval_text,
    method_name,
    method_text,
    number_text,
    ratio_text,
)

__all__ = ["across_tables"]

_GROUPS = {"seen": "tasks measured before", "new": "newly drawn tasks"}
_SCORES = ("IQM", "in each zoo", "mean", "worst decile", "harm", "ratio of sums")

Group = Mapping[str, Any]


def across_tables(across: Mapping[str, Mapping[str, Sequence[Group]]], steps: int) -> list[str]:
    """Tables of `metamap_rl.evaluation.protocol.across.across_zoos`.

    For each family and split: methods with ``steps`` transitions of D, the mapper over lengths of D, and, where zoos
    differ in it, tasks that were measured before beside newly drawn ones.
    """
    lines = []
    for family, splits in across.items():
        for split, groups in splits.items():
            by_group = {group["group"]: group for group in groups}
            lines += [*_heading(family, split, by_group["all"]), *_methods(by_group["all"], steps), ""]
            lines += [*_lengths(by_group["all"]), ""]
            if len(by_group) > 1:
                lines += [*_seen_and_new(by_group, steps), ""]
    return lines


def _heading(family: str, split: str, group: Group) -> list[str]:
    first = group["methods"][0] if group["methods"] else {"counted_tasks": 0, "tasks": 0}
    return [
        f"**{family}, {split}**: zoos {', '.join(group['zoos'])}; tasks with a gap to close {first['counted_tasks']} "
        f"of {first['tasks']}. Scores are of gap closed; harm and ratio of sums of all tasks. 95 % intervals: "
        "bootstrap over zoos, and in each its seeds and tasks.",
        "",
    ]


def _methods(group: Group, steps: int) -> list[str]:
    header = [f"method, {steps} steps", "seeds", *_SCORES, "minus the mapper: IQM"]
    rows = [
        [
            method_text(row["method"]),
            " + ".join(map(str, row["seeds"])),
            *_cells(row),
            interval_text(row["above_mapper"]),
        ]
        for row in _ordered(_at(group, steps))
    ]
    return _table(header, rows)


def _lengths(group: Group) -> list[str]:
    mapped = [row for row in group["methods"] if method_name(row["method"]) == "mapper"]
    rows = [[str(row["steps"]), *_cells(row)] for row in sorted(mapped, key=lambda row: int(row["steps"]))]
    return _table(["mapper, steps of D", *_SCORES], rows) if rows else []


def _seen_and_new(groups: Mapping[str, Group], steps: int) -> list[str]:
    found = {name: {row["method"]: row for row in _at(groups[name], steps)} for name in _GROUPS}
    header = [f"method, {steps} steps"]
    header += [f"{text}: {name}" for text in _GROUPS.values() for name in ("IQM", "worst decile", "harm")]
    rows = []
    for row in _ordered(_at(groups["all"], steps)):
        cells = [method_text(row["method"])]
        for name in _GROUPS:
            one = found[name].get(row["method"], {})
            gap = one.get("gap_closed")
            cells += [interval_text(gap), number_text(gap, "worst_decile"), harm_text(one.get("harm"))]
        rows.append(cells)
    return _table(header, rows)


def _cells(row: Group) -> list[str]:
    """The texts of `_SCORES`."""
    gap = row["gap_closed"]
    each = " ".join(NOTHING if value is None else f"{value:.2f}" for value in row["by_zoo"].values())
    beside = number_text(gap, "mean"), number_text(gap, "worst_decile"), harm_text(row["harm"])
    return [interval_text(gap), each, *beside, ratio_text(row["ratio_of_sums"])]


def _at(group: Group, steps: int) -> list[Group]:
    return [row for row in group["methods"] if row["steps"] in (steps, None)]


def _ordered(rows: Sequence[Group]) -> list[Group]:
    """The mapper, then the others by their IQM."""

    def place(row: Group) -> tuple[bool, float]:
        gap = row["gap_closed"]
        return method_name(row["method"]) != "mapper", float("inf") if gap is None else -float(gap["iqm"])

    return sorted(rows, key=place)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
