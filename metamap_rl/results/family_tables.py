"""Tables of the documents of families (docs/results/FAMILY.json). None of them needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from metamap_rl.common.bundles import bundle_card
from metamap_rl.evaluation.score_text import (
    counted_text,
    harm_text,
    interval_text,
    method_text,
    number_text,
    ratio_text,
    uncounted_text,
)

__all__ = ["OF_FAMILIES", "legend", "variants_table"]

LEAST_COUNTED, LEAST_GAIN = 0.5, 0.10


def counts(summary: dict[str, Any]) -> bool:
    """Whether a share of the gap says something: half of the tasks count, or experts gain over 10 % on average."""
    return bool(summary["counted_tasks"] >= LEAST_COUNTED * len(summary["tasks"]) or gain(summary) > LEAST_GAIN)


def gain(summary: dict[str, Any]) -> float:
    """By how much the experts' mean return is above the base policy's, as a share of that."""
    base, expert = (sum(summary[key]) / len(summary[key]) for key in ("base_returns", "expert_returns"))
    return float((expert - base) / abs(base))


def row_of(summary: dict[str, Any], method: str, steps: int | None) -> dict[str, Any]:
    """A method's numbers; its gap closed only where enough tasks count. Empty where it was not measured."""
    for entry in summary["methods"]:
        if (entry["method"], entry["steps"]) == (method, steps):
            return dict(entry) if counts(summary) else {**entry, "gap_closed": None}
    return {}


SCORES = ("IQM [95 %]", "ratio of sums [95 %]", "mean", "worst decile", "harm")
"""Columns of one method at one length."""


def score_cells(row: dict[str, Any]) -> list[str]:
    """The texts of `SCORES`: of gap closed, but for the last, which is of all tasks as is the ratio."""
    gap = row.get("gap_closed")
    return [
        interval_text(gap),
        ratio_text(row.get("ratio_of_sums")),
        number_text(gap, "mean"),
        number_text(gap, "worst_decile"),
        harm_text(row.get("harm")),
    ]


Rows = Iterator[tuple[str, str, dict[str, dict[str, Any]]]]


def by_name(results: dict[str, dict[str, Any]]) -> Rows:
    """(Document, what to call it, its splits): one for each loss of each document."""
    for document, result in results.items():
        for loss, entry in result["losses"].items():
            yield document, document if len(result["losses"]) == 1 else f"{document}, {loss} loss", entry["splits"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


LEGEND = (
    "IQM, mean and worst decile (the mean of the lowest tenth) are of gap closed, over seeds and those tasks that have "
    "a gap; ratio of sums and harm are over all tasks. Harm is the share of pairs of seed and task in which the policy "
    "is worse than phi_0: in a paired test over episodes or, marked so, by means, where a document holds no more."
)
RULES = {
    "paired test": "A task has a gap where the expert is better than phi_0 in a paired t-test over the same reset "
    "seeds ({} episodes, at 2.5 %, one-sided).",
    "old rule": 'Marked "old rule": counted by the old rule (5 % of the distance to random actions) until measured '
    "anew.",
}


def legend(summaries: Iterable[dict[str, Any]]) -> str:
    """What columns mean and what tasks count by, under a table."""
    episodes: dict[str, set[int]] = {}
    for summary in summaries:
        count = summary.get("reference_episodes", summary["episodes"])
        episodes.setdefault(summary.get("counted_by", "old rule"), set()).add(count)
    counts = " or ".join(map(str, sorted(episodes.get("paired test", ()))))
    return " ".join([LEGEND, *(text.format(counts) for name, text in RULES.items() if name in episodes)])


def families_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """All families, test-in: one row for each document, by name, and loss."""
    header = [
        "test-in",
        "seeds",
        "tasks with a gap",
        *(f"gap closed, 50 steps: {SCORES[0]}", *SCORES[1:]),
        *("5 steps: IQM", "mean", "worst decile", "harm"),
        *("base", "mapper, 50 steps", "expert", "bundle served from"),
    ]
    rows = []
    for document, name, splits in by_name(results):
        first = splits["test-in"]
        few = score_cells(row_of(first, "mapper", 5))
        returns = mean(first["base_returns"]), f"{mapped_return(first):.1f}", mean(first["expert_returns"])
        scores = score_cells(row_of(first, "mapper", 50))
        rows.append(
            [name, str(first["seeds"]), counted_text(first), *scores, few[0], *few[2:], *returns, served_from(document)]
        )
    return [*table(header, rows), "", legend(splits["test-in"] for *_, splits in by_name(results)), ""]


def summary_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The mapper with 50 transitions, test-in, without its controls: the table of the README.

    Families with too few tasks with a gap are left out; `families_table` has them.
    """
    rows = []
    for document, name, splits in by_name(results):
        if not counts(splits["test-in"]):
            continue
        iqm, ratio, _, worst, harm = score_cells(row_of(splits["test-in"], "mapper", 50))
        rows.append([name, counted_text(splits["test-in"]), iqm, ratio, worst, harm, served_from(document)])
    header = ["family", "tasks with a gap", *SCORES[:2], *SCORES[3:], "bundle served from"]
    return [*table(header, rows), ""]


def lengths_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The mapper at other lengths of D, test-in."""
    lengths = 10, 20, 100, 200
    shown = SCORES[0], *SCORES[2:]
    header = ["test-in, gap closed", *(f"{steps} steps: {name}" for steps in lengths for name in shown)]
    rows = []
    for _, name, splits in by_name(results):
        cells = [score_cells(row_of(splits["test-in"], "mapper", steps)) for steps in lengths]
        rows.append([name, *(text for found in cells for text in (found[0], *found[2:]))])
    return [*table(header, rows), ""]


def outside_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Tasks outside the training range."""
    header = ["test-out", "tasks with a gap", f"gap closed, 50 steps: {SCORES[0]}", *SCORES[1:]]
    header += ["base", "mapper, 50 steps", "expert"]
    rows = []
    for _, name, splits in by_name(results):
        if "test-out" in splits:
            found = splits["test-out"]
            returns = mean(found["base_returns"]), f"{mapped_return(found):.1f}", mean(found["expert_returns"])
            rows.append([name, counted_text(found), *score_cells(row_of(found, "mapper", 50)), *returns])
    return [*table(header, rows), ""]


CONTROLS: tuple[tuple[str, str, int | None], ...] = (
    ("another task's D, 50 steps", "shuffled", 50),
    ("mean expert", "mean expert", None),
    ("nearest expert, 200 steps", "nearest expert", 200),
    (method_text("oracle"), "oracle", None),
)


def controls_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """What is not the mapper, test-in: a privileged mapper is no upper bound."""
    shown = SCORES[0], *SCORES[2:]
    header = ["test-in, gap closed", *(f"{label}: {name}" for label, *_ in CONTROLS for name in shown)]
    rows = []
    for _, name, splits in by_name(results):
        cells = [score_cells(row_of(splits["test-in"], method, steps)) for _, method, steps in CONTROLS]
        rows.append([name, *(text for found in cells for text in (found[0], *found[2:]))])
    return [*table(header, rows), ""]


def left_out_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Every task that does not count, with what base policy and expert return."""
    rows = []
    for _, name, splits in by_name(results):
        for split, summary in splits.items():
            if summary["counted_tasks"] < len(summary["tasks"]):
                rows.append([name, split, counted_text(summary), uncounted_text(summary)])
    header = ["family", "split", "tasks with a gap", "tasks without (return of phi_0 -> expert)"]
    return [*table(header, rows), ""]


def variants_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Documents of other settings: the mapper, then its controls."""
    return [*families_table(results), *controls_table(results)] if results else []


def mapped_return(summary: dict[str, Any]) -> float:
    """Mean return of the mapper's policies from 50 steps of D, over seeds and all tasks."""
    (found,) = [entry for entry in summary["methods"] if (entry["method"], entry["steps"]) == ("mapper", 50)]
    return float(found["mean_return"])


def served_from(document: str) -> str:
    """Steps of D from which a bundled mapper's self-check lets `adapt` serve its policies; a dash without one."""
    card = bundle_card(document)
    if card is None:
        return "–"
    return "never" if card.served_from is None else str(card.served_from)


TARGETS = {  # of the gap closed from 50 steps of D; what changes is the reward, the actuators or the dynamics
    **dict.fromkeys(("ant-direction", "ant-goal", "cheetah-direction", "cheetah-velocity", "reacher-goal"), 0.97),
    **dict.fromkeys(("cheetah-actuators", "cheetah-velocity-actuators"), 0.90),
}
DYNAMICS_TARGET = 0.90


def targets_table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Each family beside its target; dynamics families, in which the expert gains enough, as one average."""
    rows = []

    def add(name: str, target: float | None, found: float, row: dict[str, Any]) -> None:
        reached = "–" if target is None else _verdict(round(found, 2) >= target)
        goal = "–" if target is None else f"{target:.2f}"
        rows.append([name, goal, f"{found:.2f}", reached, *score_cells(row)[1:]])

    dynamics = []
    for name, result in results.items():
        if "both" not in result["losses"]:
            continue
        summary = result["losses"]["both"]["splits"]["test-in"]
        row = row_of(summary, "mapper", 50)
        if row.get("gap_closed") is None:
            cells = score_cells(row)
            rows.append([f"{name} (tasks with a gap: {counted_text(summary)})", "–", "–", "–", *cells[1:]])
            continue
        found = float(row["gap_closed"]["iqm"])
        if name in TARGETS:
            add(name, TARGETS[name], found, row)
            continue
        add(f"{name} (expert {gain(summary):+.0%})", None, found, row)
        if gain(summary) > LEAST_GAIN:
            dynamics.append(found)
    if dynamics:
        average = sum(dynamics) / len(dynamics)
        add(f"mean of the {len(dynamics)} where the expert gains over 10 %", DYNAMICS_TARGET, average, {})
    header = ["gap closed at 50 steps, test-in", "target", "found: IQM", "", *SCORES[1:]]
    return [*table(header, rows), ""]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**missed**"


def mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}"


OF_FAMILIES = {
    "summary": summary_table,
    "families": families_table,
    "targets": targets_table,
    "lengths": lengths_table,
    "test-out": outside_table,
    "controls": controls_table,
    "without-a-gap": left_out_table,
}
"""Tables by the name of their place in a page."""
