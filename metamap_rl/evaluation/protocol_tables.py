"""Tables of a run in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamap_rl.evaluation.across_tables import across_tables
from metamap_rl.evaluation.score_text import (
    NOTHING,
    counted_text,
    harm_text,
    interval_text,
    method_name,
    method_text,
    number_text,
    old_rule_mark,
    ratio_text,
    rule_text,
    uncounted_text,
)

__all__ = [
    "about_runs",
    "headline_table",
    "learning_table",
    "methods_table",
    "pooled_table",
    "results_text",
    "rivals_table",
]

_SHOWN = (5, 50, 200)
"""Lengths of D with a column, if measured."""

Summary = Mapping[str, Any]
_NO_RIVALS = ("privileged-mapper", "shuffled")
"""Controls, excluded from the best other method: one is given the task's parameters, the other another task's D."""

_RIVALS = {
    "mapper": "mapper",
    "sysid": "`sysid`",
    "estimate": "`estimate`",
    "student": "student",
    "wide-student": "wide student",
    "context-policy": "context policy",
    "wide-context-policy": "wide context policy",
    "nearest-expert": "nearest expert",
    "likeliest-expert": "likeliest expert",
}
"""Methods that read D and use what the mapper was made of, in the order of the columns of `rivals_table`."""

TARGET_RATIO = 100
"""The project's goal for environment steps of PPO from phi_0 / transitions of D, for the same return."""


def headline_table(families: Mapping[str, Summary], steps: int) -> list[str]:
    """One row per family: the mapper, the best other method, and the environment steps of PPO."""
    lines = [
        f"| test-in | tasks with a gap | gap closed, {steps} steps: IQM | ratio of sums | mean | worst decile | harm "
        "| best other method | its gap closed: IQM | worst decile | harm | P(it is better) "
        "| PPO from phi_0: steps to the same return / steps of D |",
        "| --- |" + " --- |" * 12,
    ]
    for name, entry in families.items():
        summary = entry["splits"].get("test-in")
        if summary is None:
            continue
        rows = {method_name(row["method"]): row for row in summary["methods"] if row["steps"] in (steps, None)}
        mapper = rows.get("mapper")
        others = [row for name, row in rows.items() if name not in ("mapper", *_NO_RIVALS) and row["normalised"]]
        best = max(others, key=lambda row: float(row["normalised"]["iqm"]), default=None)
        gap, theirs = mapper and mapper["gap_closed"], best and best["gap_closed"]
        harm, their_harm = (harm_text(row and row.get("harm")) for row in (mapper, best))
        ratio = ratio_text(mapper and mapper.get("ratio_of_sums"))
        lines.append(
            f"| {name} | {counted_text(summary)} | {interval_text(gap)} | {ratio} "
            f"| {number_text(gap, 'mean')} | {number_text(gap, 'worst_decile')} "
            f"| {harm} | {best['method'] if best else NOTHING} "
            f"| {interval_text(theirs)} | {number_text(theirs, 'worst_decile')} | {their_harm} "
            f"| {_probability(best and best['better_than_mapper'])} | {_times(entry.get('learning', {}))} |"
        )
    return lines


def rivals_table(families: Mapping[str, Summary], steps: int) -> list[str]:
    """One row per family: gap closed of the mapper and of every rival, as IQM with the worst decile in brackets."""
    splits = {name: entry["splits"]["test-in"] for name, entry in families.items() if "test-in" in entry["splits"]}
    rows = {
        name: {method_name(row["method"]): row for row in summary["methods"] if row["steps"] in (steps, None)}
        for name, summary in splits.items()
    }
    shown = [method for method in _RIVALS if any(method in found for found in rows.values())]
    lines = [
        f"| {steps} transitions | tasks with a gap | {' | '.join(_RIVALS[method] for method in shown)} |",
        "| --- |" + " --- |" * (len(shown) + 1),
    ]
    for name, found in rows.items():
        cells = [_with_worst(found.get(method)) for method in shown]
        lines.append(f"| {name} | {counted_text(splits[name])} | {' | '.join(cells)} |")
    return lines


def _with_worst(row: Summary | None) -> str:
    gap = row and row["gap_closed"]
    return f"{gap['iqm']:.2f} ({gap['worst_decile']:.2f})" if gap else NOTHING


def _times(learning: Summary) -> str:
    """The compared ratio and, if known, whether it meets the goal."""
    found = learning.get("ratios", {}).get(learning.get("compared"))
    if found is None:
        return NOTHING
    if found["low"] is None:
        return _steps_ratio(found)
    return f"{_steps_ratio(found)} ({TARGET_RATIO}: {'met' if found['low'] >= TARGET_RATIO else 'missed'})"


def _steps_ratio(found: Summary) -> str:
    """A median over runs with its interval; or a bound if half of them are censored."""
    runs = f"of {found['tasks']} runs (one seed)"
    if found["low"] is None:
        return f"more than {found['more_than']:,.0f} in {found['tasks'] - found['reached']} {runs}; censored"
    unbounded = found["more_than"] is not None and found["high"] >= found["more_than"]
    high = f"more than {found['more_than']:,.0f}" if unbounded else f"{found['high']:,.0f}"
    return f"{found['median']:,.0f} [{found['low']:,.0f}, {high}], reached in {found['reached']} {runs}"


def family_tables(name: str, entry: Summary, steps: int) -> list[str]:
    """The tables of one family of `metamap_rl.evaluation.protocol.report.summarise_runs`: two per split."""
    lines = []
    for split, summary in entry["splits"].items():
        lines += [*_split_table(name, split, summary, entry, steps), "", *_beside_table(summary, steps), ""]
    return lines


def _split_table(name: str, split: str, summary: Summary, entry: Summary, steps: int) -> list[str]:
    measured = {row["steps"] for row in summary["methods"]}
    columns = [length for length in _SHOWN if length in measured] or [steps]
    left_out = uncounted_text(summary)
    lines = [
        f"**{name}, {split}**: tasks with a gap to close {counted_text(summary)} ({rule_text(summary)}). "
        f"Mean return of random actions {_mean(summary['random_returns'])}, phi_0 {_mean(summary['base_returns'])}, "
        f"experts {_mean(summary['expert_returns'])}."
        + (f" Not in gap closed (phi_0 -> expert): {left_out}." if left_out else ""),
        "",
        "| method | seeds | "
        + " | ".join(f"gap closed, {length} steps" for length in columns)
        + f" | normalised, {steps} steps | P(better than the mapper), {steps} steps | steps before the task |",
        "| --- | --- |" + " --- |" * (len(columns) + 3),
    ]
    for method, rows in _ranked(summary, steps).items():
        main = rows.get(steps, rows.get(None))
        cells = [interval_text(_of(rows, length, "gap_closed")) for length in columns]
        if None in rows:
            cells = [cells[0], *["same"] * (len(columns) - 1)]
        seeds = len(next(iter(rows.values()))["returns"])
        better = None if main is None else main["better_than_mapper"]
        lines.append(
            f"| {method_text(method)} | {seeds} | "
            + " | ".join(cells)
            + f" | {interval_text(None if main is None else main['normalised'])} | {_probability(better)} "
            + f"| {_count(entry['training_steps'][method])} |"
        )
    return lines


def _beside_table(summary: Summary, steps: int) -> list[str]:
    """Table of ratio of sums, means, worst deciles and harm."""
    measured = {row["steps"] for row in summary["methods"]}
    columns = [length for length in _SHOWN if length in measured and length != steps]
    lines = [
        f"| method, {steps} steps | ratio of sums, all tasks | gap closed: mean | worst decile | normalised: mean "
        "| worst decile | harm |" + "".join(f" harm, {length} steps |" for length in columns),
        "| --- |" + " --- |" * (6 + len(columns)),
    ]
    for method, rows in _ranked(summary, steps).items():
        main = rows.get(steps, rows.get(None))
        if main is None:
            continue
        gap, normalised = main["gap_closed"], main["normalised"]
        harms = [harm_text(_of(rows, length, "harm")) for length in (steps, *columns)]
        lines.append(
            f"| {method_text(method)} | {ratio_text(main.get('ratio_of_sums'))} | {number_text(gap, 'mean')} "
            f"| {number_text(gap, 'worst_decile')} | {number_text(normalised, 'mean')} "
            f"| {number_text(normalised, 'worst_decile')} | " + " | ".join(harms) + " |"
        )
    return lines


def _ranked(summary: Summary, steps: int) -> dict[str, dict[int | None, Summary]]:
    """Rows by length of each method: the mapper's, then the others' by their normalised score."""
    found: dict[str, dict[int | None, Summary]] = {}
    for row in summary["methods"]:
        found.setdefault(row["method"], {})[row["steps"]] = row

    def place(item: tuple[str, dict[int | None, Summary]]) -> tuple[bool, float]:
        row = item[1].get(steps, item[1].get(None))
        score = -float("inf") if row is None else row["normalised"]["iqm"] if row["normalised"] else 0.0
        return item[0] != "mapper", -score

    return dict(sorted(found.items(), key=place))


def _of(rows: Mapping[int | None, Summary], steps: int, score: str) -> Summary | None:
    row = rows.get(steps, rows.get(None))
    return None if row is None else row.get(score)


def learning_table(families: Mapping[str, Summary]) -> list[str]:
    """Adaptation against learning, one row per family, initial policy and settings."""
    lines = [
        "| family | PPO from, settings | steps to the mapped return, median | steps of D "
        "| ratio, median [95 % interval over tasks] |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, entry in families.items():
        learning = entry.get("learning", {})
        for kind, found in learning.get("ratios", {}).items():
            if kind.startswith("phi-hat"):
                continue  # reached by the initial policy
            mark = " (compared)" if kind == learning.get("compared") else ""
            more = "" if found["low"] is not None else "more than "
            lines.append(
                f"| {name} | {kind}{mark} | {more}{found['median_steps']:,.0f} | {learning['length']} "
                f"| {_steps_ratio(found)} |"
            )
    return lines if len(lines) > 2 else []


def pooled_table(rows: list[dict[str, Any]], steps: int) -> list[str]:
    """Methods over all families."""
    if not rows:
        return []
    lines = [
        f"| method | families | seeds | normalised, {steps} steps: IQM | mean | worst decile | tasks "
        f"| gap closed, {steps} steps: IQM | mean | worst decile | tasks | harm |",
        "| --- |" + " --- |" * 11,
    ]
    unranked = float("-inf")
    for row in sorted(rows, key=lambda row: row["normalised"]["iqm"] if row["normalised"] else unranked, reverse=True):
        scores = {name: row[name] for name in ("normalised", "gap_closed")}
        ranked, gap = (
            f"{interval_text(score)} | {number_text(score, 'mean')} | {number_text(score, 'worst_decile')}"
            for score in scores.values()
        )
        lines.append(
            f"| {method_text(row['method'])} | {row['families']} | {row['seeds']} | {ranked} | {row['tasks']} "
            f"| {gap} | {row['counted_tasks']}{old_rule_mark(row)} | {harm_text(row.get('harm'))} |"
        )
    return lines


def methods_table(methods: Mapping[str, Any]) -> list[str]:
    """Description and learning signal of the methods; classes of `METHODS` by name."""
    lines = ["| method | what it is | learns from, at test |", "| --- | --- | --- |"]
    for name, method in methods.items():
        lines.append(f"| {method_text(name)} | {method.summary} | {method.signal} |")
    return lines


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}"


def _probability(found: Summary | None) -> str:
    return NOTHING if found is None else f"{found['probability']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _count(steps: int) -> str:
    return f"{steps / 1e6:.2f} M" if steps >= 10_000 else f"{steps:,}"


def results_text(summary: Mapping[str, Any], figures: Sequence[Path] = ()) -> str:
    """All tables but `methods_table`, each family's after its figure (a path relative to where the text goes)."""
    steps, families = summary["headline_steps"], summary["families"]
    shown = {path.stem: f"![{path.stem}]({path.as_posix()})" for path in figures}
    parts = [["## In short", "", *headline_table(families, steps)]]
    if summary["pooled"]:
        parts.append(["## All families", "", *_figure(shown, "all"), *pooled_table(summary["pooled"], steps)])
    across = across_tables(summary.get("across_zoos", {}), steps)
    parts += [["## Several zoos", "", *across]] if across else []
    for name, entry in families.items():
        parts.append([f"## {name}", "", *_figure(shown, name), *family_tables(name, entry, steps)])
    learning = learning_table(families)
    parts += [["## Adaptation against learning", "", *learning]] if learning else []
    return "\n".join("\n".join(part).rstrip() + "\n" for part in parts)


def _figure(shown: dict[str, str], name: str) -> list[str]:
    return [shown[name], ""] if name in shown else []


def about_runs(summary: Mapping[str, Any]) -> str:
    """Machines and versions that the numbers of runs come from."""
    machines = list(dict.fromkeys(str(machine.get("cpu", machine)) for machine in summary["machines"]))
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"][0].items())
    zoos = ", ".join(f"{name} {zoo['experts']['train']}" for name, zoo in summary["zoos"].items())
    return (
        f"{summary['configs'][0]['episodes']} episodes for each task and policy. Training experts: {zoos}. "
        f"Machine: {'; '.join(machines)}. Versions: {versions}."
    )
