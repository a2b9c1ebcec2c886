"""Text of scores for tables, from the JSON values of `evaluation.scores.Evaluation.summary`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metamap_envs.task import Task

__all__ = [
    "NOTHING",
    "counted_text",
    "earlier_names",
    "harm_text",
    "interval_text",
    "method_name",
    "method_text",
    "number_text",
    "old_rule_mark",
    "ratio_text",
    "rule_text",
    "uncounted_text",
]

NOTHING = "–"
"""Shown for numbers that are undefined or were not measured."""

Document = Mapping[str, Any]

_METHODS = {
    **dict.fromkeys(("privileged-mapper", "oracle"), "privileged mapper (given the parameters)"),
    "universal-policy": "oracle (universal policy, given the parameters)",
}
"""Display names of methods with other names in stored documents."""

_EARLIER_METHODS = {
    "oracle": "privileged-mapper",
    **{name: name.replace(" ", "-") for name in ("checked mapper", "mean expert", "nearest expert")},
}

_RULES = {
    "paired test": "the expert is better than phi_0 in a paired t-test over the same reset seeds, at 2.5 %, one-sided",
    "old rule": "5 % of the distance to random actions, until they are measured anew",
}


def method_name(stored: str) -> str:
    """The name that a method has now, from that in a document."""
    return _EARLIER_METHODS.get(stored, stored)


def earlier_names(method: str) -> list[str]:
    """The names that a method had in earlier versions."""
    return [earlier for earlier, now in _EARLIER_METHODS.items() if now == method]


def method_text(name: str) -> str:
    """A method's name for tables."""
    return _METHODS.get(name, name)


def interval_text(score: Document | None) -> str:
    """An interquartile mean with its interval."""
    return NOTHING if score is None else f"{score['iqm']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def number_text(score: Document | None, key: str) -> str:
    """The mean or the worst decile of a score, with its interval where the document has it."""
    if score is None or key not in score:
        return NOTHING
    found = score.get(f"{key}_interval")
    return f"{score[key]:.2f}" + ("" if found is None else f" [{found[0]:.2f}, {found[1]:.2f}]")


def ratio_text(ratio: Document | None) -> str:
    """A ratio of sums; with a dash for its interval if the summed gap may be 0."""
    if ratio is None:
        return NOTHING
    bounds = NOTHING if ratio["low"] is None else f"{ratio['low']:.2f}, {ratio['high']:.2f}"
    return f"{ratio['ratio']:.2f} [{bounds}]"


def harm_text(harm: Document | None) -> str:
    """The fraction of pairs of seed and task that are worse than the base policy; marked if it is by means alone."""
    if harm is None:
        return NOTHING
    if harm["by"] == "means":
        return f"{harm['share']:.0%} by means"
    return f"{harm['share']:.0%}" + (f" [{harm['low']:.0%}, {harm['high']:.0%}]" if "low" in harm else "")


def rule_text(summary: Document) -> str:
    """Rule by which the tasks of a summary are counted."""
    return _RULES[summary.get("counted_by", "old rule")]


def counted_text(summary: Document) -> str:
    """Number of tasks with a gap, marked if by the old rule."""
    return f"{summary['counted_tasks']} of {len(summary['tasks'])}{old_rule_mark(summary)}"


def old_rule_mark(entry: Document) -> str:
    """Mark of a number of tasks that is not by the paired test."""
    return "" if entry.get("counted_by") == "paired test" else ", old rule"


def uncounted_text(summary: Document) -> str:
    """Uncounted tasks with the returns of phi_0 and expert; empty if there are none, or they are unknown."""
    counted = summary.get("counted", [True] * len(summary["tasks"]))  # not stored in old documents
    rows = zip(summary["tasks"], counted, summary["base_returns"], summary["expert_returns"], strict=True)
    return "; ".join(
        f"{Task.from_json(task).describe()} ({base:.1f} -> {expert:.1f})"
        for task, counts, base, expert in rows
        if not counts
    )
