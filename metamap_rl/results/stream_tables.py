"""Tables of benchmarks of streams, as Markdown: documents of summarise_streams.py and bench_update.py in scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["learners_table", "memory_table", "update_time_table"]

_KEPT = {"balanced": "{share}, by task", "reservoir": "{share}, at random", "all": "everything", "none": "none"}


def learners_table(document: Mapping[str, Any]) -> list[str]:
    """Every learner of the stream that has the reference, best on held-out tasks first."""
    reference = document["reference"]
    stream = next(row["stream"] for row in document["rows"] if row["learner"] == reference)
    lines = [
        f"| learner | runs | memory | GEN_k, new tasks | minus {reference} | GAP_k, new tasks | AP_final, seen tasks "
        f"| minus {reference} | F_last |",
        "| --- |" + " --- |" * 8,
    ]
    rows = [row for row in document["rows"] if row["stream"] == stream]
    for row in sorted(rows, key=lambda row: -row["metrics"]["GEN_k"]["iqm"]):
        metrics, behind = row["metrics"], row["minus_reference"]
        own = row["learner"] == reference
        cells = [
            row["learner"],
            str(row["cells"]),
            _KEPT[row["memory"]].format(share=_percent(row["memory_share"])),
            _cell(metrics["GEN_k"]),
            "–" if own else _cell(behind["GEN_k"], "+"),
            _cell(metrics["GAP_k"]),
            _cell(metrics["AP_final"]),
            "–" if own else _cell(behind["AP_final"], "+"),
            _cell(metrics["F_last"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def memory_table(document: Mapping[str, Any]) -> list[str]:
    """Learners that were measured with several budgets: scores by share of what would be stored."""
    by_learner: dict[str, dict[float, Mapping[str, Any]]] = {}
    for row in document["rows"]:
        if row["memory_share"] is not None:
            by_learner.setdefault(row["learner"], {})[row["memory_share"]] = row
    several = {name: of for name, of in by_learner.items() if len(of) > 1}
    shares = sorted({share for of in several.values() for share in of})
    lines = [
        f"| learner | score | {' | '.join(f'memory {_percent(share)}' for share in shares)} |",
        "| --- | --- |" + " --- |" * len(shares),
    ]
    for name, of in several.items():
        for metric in ("GEN_k", "AP_final", "F_last"):
            cells = [_cell(of[share]["metrics"][metric]) if share in of else "–" for share in shares]
            lines.append(f"| {name} | {metric} | {' | '.join(cells)} |")
    return [*lines, ""]


def update_time_table(document: Mapping[str, Any]) -> list[str]:
    """CPU seconds of an update at both ends of a stream."""
    mean, ratio = document["mean"], document["ratio"]
    return [
        f"| {document['tasks']} tasks, {document['updates']} gradient steps | first ten | last ten | last / first |",
        "| --- | --- | --- | --- |",
        f"| CPU seconds of an update, {document['repeats']} repeats | {mean['first']:.2f} | {mean['last']:.2f} "
        f"| {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f}) |",
        "",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _cell(found: Mapping[str, Any] | None, sign: str = "") -> str:
    """A metric with its interval; how many runs have it, where that is not all."""
    if found is None:
        return "–"
    numbers: Sequence[float] = [found["iqm"], *((found["low"], found["high"]) if "low" in found else ())]
    value, *interval = (f"{number:{sign}.3f}" for number in numbers)
    some = f" ({found['cells']} of {found['of']})" if found["cells"] < found["of"] else ""
    return value + (f" [{interval[0]}, {interval[1]}]" if interval else "") + some
