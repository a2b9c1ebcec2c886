"""A run's numbers as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metamap_rl.protocol.methods import METHODS

__all__ = ["family_tables", "headline_table", "learning_table", "methods_table", "pooled_table"]

_SHOWN = (5, 50, 200)
"""Steps of D that have a column, where they were measured."""

Summary = Mapping[str, Any]


_TOLD = ("oracle", "shuffled")
"""Not rivals: one is told the task, the other is given another one."""

TARGET_RATIO = 100
"""Environment steps of PPO from phi_0 over those of D, for the same return, that the project aims at."""


def headline_table(families: Mapping[str, Summary], steps: int) -> list[str]:
    """One row for each family: the mapper, the best other method, and how much longer PPO takes."""
    lines = [
        f"| test-in | gap closed, {steps} steps | normalised | best other method | its gap closed "
        "| P(it is better) | PPO from phi_0: steps to the same return / steps of D |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in families.items():
        summary = entry["splits"].get("test-in")
        if summary is None:
            continue
        rows = {row["method"]: row for row in summary["methods"] if row["steps"] in (steps, None)}
        mapper = rows.get("mapper")
        others = [row for row in rows.values() if row["method"] not in ("mapper", *_TOLD) and row["normalised"]]
        best = max(others, key=lambda row: float(row["normalised"]["iqm"]), default=None)
        lines.append(
            f"| {name} | {_interval(mapper and mapper['gap_closed'])} | {_interval(mapper and mapper['normalised'])} "
            f"| {best['method'] if best else '–'} | {_interval(best and best['gap_closed'])} "
            f"| {_probability(best and best['better_than_mapper'])} | {_times(entry.get('learning', {}))} |"
        )
    return lines


def _times(learning: Summary) -> str:
    """The ratio that is compared, and whether it is what is aimed at."""
    found = learning.get("ratios", {}).get(learning.get("compared"))
    if found is None:
        return "–"
    least = "at least " if 2 * found["reached"] <= found["tasks"] else ""
    verdict = "met" if found["median"] >= TARGET_RATIO else "missed" if not least else "not known"
    return f"{least}{found['median']:,.0f} [{found['low']:,.0f}, {found['high']:,.0f}] (100: {verdict})"


def family_tables(name: str, entry: Summary, steps: int) -> list[str]:
    """The tables of one family of `metamap_rl.protocol.report.summarise_runs`: one for each split."""
    lines = []
    for split, summary in entry["splits"].items():
        lines += [*_split_table(name, split, summary, entry, steps), ""]
    return lines


def _split_table(name: str, split: str, summary: Summary, entry: Summary, steps: int) -> list[str]:
    measured = {row["steps"] for row in summary["methods"]}
    columns = [length for length in _SHOWN if length in measured] or [steps]
    count = len(summary["tasks"])
    lines = [
        f"**{name}, {split}**: {count} tasks, {summary['counted_tasks']} of them counted in gap closed; mean return of "
        f"random actions {_mean(summary['random_returns'])}, phi_0 {_mean(summary['base_returns'])}, "
        f"experts {_mean(summary['expert_returns'])}.",
        "",
        "| method | seeds | "
        + " | ".join(f"gap closed, {length} steps" for length in columns)
        + f" | normalised, {steps} steps | P(better than the mapper), {steps} steps | steps before the task |",
        "| --- | --- |" + " --- |" * (len(columns) + 3),
    ]
    for method in _ranked(summary, steps):
        rows = {row["steps"]: row for row in summary["methods"] if row["method"] == method}
        main = rows.get(steps, rows.get(None))
        cells = [_interval(_of(rows, length, "gap_closed")) for length in columns]
        if None in rows:
            cells = [cells[0], *["same"] * (len(columns) - 1)]
        seeds = len(next(iter(rows.values()))["returns"])
        better = None if main is None else main["better_than_mapper"]
        lines.append(
            f"| {method} | {seeds} | "
            + " | ".join(cells)
            + f" | {_interval(None if main is None else main['normalised'])} | {_probability(better)} "
            + f"| {_count(entry['training_steps'][method])} |"
        )
    return lines


def _ranked(summary: Summary, steps: int) -> list[str]:
    """Names of methods: the mapper, then the others by their normalised score."""
    scores = {
        row["method"]: row["normalised"]["iqm"] if row["normalised"] else 0.0
        for row in summary["methods"]
        if row["steps"] in (steps, None)
    }
    names = dict.fromkeys(row["method"] for row in summary["methods"])
    return sorted(names, key=lambda name: (name != "mapper", -scores.get(name, -float("inf"))))


def _of(rows: Mapping[int | None, Summary], steps: int, score: str) -> Summary | None:
    row = rows.get(steps, rows.get(None))
    found: Summary | None = None if row is None else row[score]
    return found


def learning_table(families: Mapping[str, Summary]) -> list[str]:
    """Adaptation against learning, one row for each family, start and settings."""
    lines = [
        "| family | PPO from, settings | tasks | reached the mapped return | steps to it, median | steps of D "
        "| ratio, median [95 % interval over tasks] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in families.items():
        learning = entry.get("learning", {})
        for kind, found in learning.get("ratios", {}).items():
            if kind.startswith("phi-hat"):
                continue  # it is there from the start
            least = "at least " if 2 * found["reached"] <= found["tasks"] else ""
            mark = " (compared)" if kind == learning.get("compared") else ""
            needed = f"{least}{found['median_steps']:,.0f}"
            lines.append(
                f"| {name} | {kind}{mark} | {found['tasks']} | {found['reached']} | {needed} "
                f"| {learning['length']} | {least}{found['median']:,.0f} [{found['low']:,.0f}, {found['high']:,.0f}] |"
            )
    return lines if len(lines) > 2 else []


def pooled_table(rows: list[dict[str, Any]], steps: int) -> list[str]:
    """Methods over all families."""
    if not rows:
        return []
    lines = [
        f"| method | families | seeds | normalised, {steps} steps | tasks | gap closed, {steps} steps | tasks |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    unranked = float("-inf")
    for row in sorted(rows, key=lambda row: row["normalised"]["iqm"] if row["normalised"] else unranked, reverse=True):
        lines.append(
            f"| {row['method']} | {row['families']} | {row['seeds']} | {_interval(row['normalised'])} | {row['tasks']} "
            f"| {_interval(row['gap_closed'])} | {row['counted_tasks']} |"
        )
    return lines


def methods_table(names: list[str]) -> list[str]:
    """What the methods do, and what they learn from at test."""
    lines = ["| method | what it is | learns from, at test |", "| --- | --- | --- |"]
    for name in names:
        method = METHODS.get(name)
        lines.append(f"| {name} | {method.summary} | {method.signal} |")
    return lines


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}"


def _interval(score: Summary | None) -> str:
    return "–" if score is None else f"{score['iqm']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _probability(found: Summary | None) -> str:
    return "–" if found is None else f"{found['probability']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _count(steps: int) -> str:
    return f"{steps / 1e6:.2f} M" if steps >= 10_000 else f"{steps:,}"
