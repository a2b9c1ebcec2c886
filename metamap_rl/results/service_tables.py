"""Tables of the experiment in service, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["in_service_table"]

_MAIN = "main"
_HEAD = (
    "method",
    "share",
    "worst decile",
    "regret, 200 steps after a change",
    "median recovery, steps",
    "not recovered after 20 / 50 / 200",
    "tasks harmed",
    "weight changes / 1,000",
    "false alarms / 1,000 quiet",
    "CPU ms a step, p99",
)


def in_service_table(document: Mapping[str, Any]) -> list[str]:
    """For each family one row for each method of the main schedule, best first; shares of the others; the decision.

    A document without a main schedule has all in full. Rescues and falls are in the document only.
    """
    found: list[str] = []
    short: dict[str, Mapping[str, Any]] = {}
    for family, schedules in document["families"].items():
        for name, schedule in schedules.items():
            if name == _MAIN or _MAIN not in schedules:
                found += [*_full(f"`{family}`, {name}", schedule), ""]
            else:
                short[f"`{family}`, {name}"] = schedule
    found += _shares(short)
    decision = document["decision"]
    about = "" if decision["split"].startswith("test") else f" (split {decision['split']}: no result)"
    return [*found, f"Decision rule{about}: {'; '.join(decision['sentences'])}."]


def _full(name: str, schedule: Mapping[str, Any]) -> list[str]:
    """All figures of a family's schedule."""
    zoos = f"{schedule['zoos']} zoo{'s' if schedule['zoos'] > 1 else ''}"
    rows = sorted(schedule["methods"].items(), key=lambda item: -item[1]["return"])
    return [
        f"{name}: {zoos}, {schedule['trials']} trials of {schedule['steps']} steps, {schedule['changes']} changes",
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{' --- |' * len(_HEAD)}",
        *(f"| {' | '.join([method, *_row(row)])} |" for method, row in rows),
    ]


def _shares(schedules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Shares by family and schedule, one column for each method that is neither base policy (0) nor oracle (1)."""
    methods = dict.fromkeys(
        method
        for schedule in schedules.values()
        for method in sorted(schedule["methods"])
        if method not in ("base policy", "oracle")
    )
    if not methods:
        return []
    lines = [f"| share (worst decile) | changes | {' | '.join(methods)} |", f"| --- | --- |{' --- |' * len(methods)}"]
    for name, schedule in schedules.items():
        rows = (schedule["methods"].get(method) for method in methods)
        cells = ("" if row is None else f"{_share(row)} ({_number(row.get('worst_decile'), 2)})" for row in rows)
        lines.append(f"| {name} | {schedule['changes']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _share(row: Mapping[str, Any]) -> str:
    return _ratio(row["share"], row["low"], row["high"]) if row.get("share") is not None else ""


def _row(row: Mapping[str, Any]) -> list[str]:
    harm, recovery, alarms = row.get("harm"), row.get("recovery"), row.get("false_alarms_per_1000_quiet")
    return [
        _share(row),
        _number(row.get("worst_decile"), 2),
        _ratio(**row["regret"], digits=0) if row.get("regret") else "",
        _median(recovery) if recovery else "",
        " / ".join(_number(recovery["not_recovered"][step], 2) for step in ("20", "50", "200")) if recovery else "",
        f"{harm['rate']:.0%} of {harm['tasks']}" if harm else "",
        _number(row["weight_changes_per_1000"], 0),
        _number(alarms, 2),
        _number(row["latency_ms"]["p99"], 1),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _ratio(estimate: float, low: float | None, high: float | None, digits: int = 2) -> str:
    interval = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{estimate:.{digits}f}{interval}"


def _median(recovery: Mapping[str, Any]) -> str:
    median, low, high = (
        "never" if recovery[key] is None else f"{recovery[key]:.0f}" for key in ("median", "low", "high")
    )
    return f"{median} [{low}, {high}]"
