"""Tables of streams of tasks, as Markdown: learners, memory, time of an update, steps of experts, detected shifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "environments_table",
    "expert_steps_table",
    "interval",
    "learners_table",
    "long_table",
    "memory_table",
    "shift_table",
    "stream_table",
    "update_time_table",
]

_COLUMNS = ("AP_final", "F_last", "BWT_families", "FWT_zs", "GEN_first", "GEN_final", "gap_closed_held_out")

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


def environments_table(document: Mapping[str, Any]) -> list[str]:
    """Learners on a stream of Gymnasium environments, by the metrics of Continual World, best average first."""
    lines = [
        "| learner | runs | average performance, AP_final | forgetting, F_cw | forward transfer, FT_auc | ABC "
        "| environment steps |",
        "| --- |" + " --- |" * 6,
    ]
    for row in sorted(document["rows"], key=lambda row: -row["metrics"]["AP_final"]["iqm"]):
        metrics = row["metrics"]
        cells = [_cell(metrics[name]) for name in ("AP_final", "F_cw", "FT_auc", "ABC")]
        lines.append(f"| {row['learner']} | {row['cells']} | {' | '.join(cells)} | {metrics['ENV']['iqm']:,.0f} |")
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


def interval(entry: dict[str, float] | None, digits: int = 3) -> str:
    """An interquartile mean with its interval; a dash where there is none."""
    if entry is None:
        return "–"
    if "low" not in entry:
        return f"{entry['iqm']:.{digits}f}"
    return f"{entry['iqm']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


def stream_table(result: dict[str, Any]) -> list[str]:
    """Learners in rows, metrics by formula name in columns."""
    lines = [
        "| learner | runs | " + " | ".join(_COLUMNS) + " | s per update |",
        "| --- | --- |" + " --- |" * (len(_COLUMNS) + 1),
    ]
    for name, entry in result["learners"].items():
        cells = [cell for cell in result["cells"] if cell["learner"] == name]
        seconds = sum(cell["update_seconds"]["last"] for cell in cells) / len(cells)
        stale = name == "joint"  # between its retrainings its scores are those of an older mapper
        columns = [
            "–" if stale and column in ("F_last", "FWT_zs", "BWT_families") else interval(entry[column])
            for column in _COLUMNS
        ]
        lines.append(f"| {name} | {entry['runs']} | " + " | ".join(columns) + f" | {seconds:.1f} |")
    return [*lines, ""]


def long_table(result: dict[str, Any]) -> list[str]:
    """First against last stages of a long stream."""
    lines = ["| 100 tasks | first ten | last ten | last / first |", "| --- | --- | --- | --- |"]
    cell = result["cells"][0]
    for label, key, scale, digits in (
        ("seconds per update", "update_seconds", 1, 2),
        ("MB of memory", "memory_bytes", 1e6, 2),
    ):
        first, last = cell[key]["first"] / scale, cell[key]["last"] / scale
        lines.append(f"| {label} | {first:.{digits}f} | {last:.{digits}f} | {last / first:.2f} |")
    final = cell["AP_final"]
    lines.append(f"| AP_final | | {'–' if final is None else f'{final:.3f}'} | |")
    return [*lines, ""]


def expert_steps_table(result: dict[str, Any]) -> list[str]:
    """Steps of PPO to 95 % of the expert's score, by where it starts."""
    lines = [
        "| PPO steps to a score of 0.95, mean | tasks | from scratch | from phi_0 | from phi_hat | at once "
        "| scratch / phi_hat |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in {**result["families"], "all": result["all"]}.items():
        steps = " | ".join(
            f"{'at least ' if entry['reached'][start] < entry['tasks'] else ''}{entry['mean_steps'][start]:,.0f}"
            for start in ("scratch", "phi-0", "phi-hat")
        )
        lines.append(f"| {name} | {entry['tasks']} | {steps} | {entry['at_once']} | {_scratch_ratio(entry)} |")
    return [*lines, ""]


def _scratch_ratio(entry: dict[str, Any]) -> str:
    """Steps from scratch over those from phi_hat; a dash where those from phi_hat are a lower bound themselves."""
    if entry["reached"]["phi-hat"] < entry["tasks"]:
        return "–"
    least = "at least " if entry["reached"]["scratch"] < entry["tasks"] else ""
    return f"{least}{entry['scratch_over_phi_hat']:.1f}"


def shift_table(result: dict[str, Any]) -> list[str]:
    """False alarms and hits of the shift detector."""
    lines = [
        "| shift detector | false alarms | hits | by distance of the tasks, quarters |",
        "| --- | --- | --- | --- |",
    ]
    for entry in result["families"]:
        quarters = ", ".join(f"{value:.2f}" for value in entry["hits_by_distance"])
        lines.append(f"| {entry['family']} | {entry['false_alarms']:.2f} | {entry['hits']:.2f} | {quarters} |")
    return [*lines, ""]


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
