"""Table of the bundled mappers, each measured by what is in its own folder, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json
from metamap_rl.evaluation.score_text import NOTHING, counted_text, interval_text, ratio_text
from metamap_rl.results.family_tables import counts

__all__ = ["bundles_table", "published_evaluations"]

_METHODS = ("mapper", "estimate")


def bundles_table(document: Mapping[str, Any]) -> list[str]:
    """One row for each mapper, origin of D and method, then the differences to mappers that are replaced."""
    lengths = document["settings"]["lengths"]
    heads = (f"{steps} transitions: IQM [95 %] (worst decile)" for steps in lengths)
    tail = f"{lengths[-1]}: ratio of sums [95 %]", "return", "base", "universal policy, true task"
    lines = [
        f"| mapper | served from | D from | method | tasks with a gap | {' | '.join([*heads, *tail])} |",
        f"| --- | --- | --- | --- | --- |{' --- |' * (len(lengths) + len(tail))}",
    ]
    for name, entry in document["mappers"].items():
        served = "never" if entry["served_from"] is None else str(entry["served_from"])
        for origin, found in entry["origins"].items():
            measured = {(one["method"], one["steps"]): one for one in found["methods"]}
            for method in _METHODS:
                if (method, lengths[-1]) not in measured:
                    continue
                last = measured[method, lengths[-1]]
                gaps = [measured[method, steps]["gap_closed"] if counts(found) else None for steps in lengths]
                cells = [
                    *(_gap(gap) for gap in gaps),
                    ratio_text(last["ratio_of_sums"]),
                    *(f"{value:.1f}" for value in (last["mean_return"], _mean(found["base_returns"]))),
                    f"{_mean(found['expert_returns']):.1f}",
                ]
                lines.append(
                    f"| {name} | {served} | {origin} | {method} | {counted_text(found)} | {' | '.join(cells)} |"
                )
    return [*lines, *_differences(document, lengths)]


def published_evaluations(name: str, results: Path) -> dict[str, dict[str, Any]]:
    """Evaluations on test-in tasks behind the published scores of a bundled mapper, by origin of D.

    Those of the mapper itself (`metamap results run bundles`, which needs that it holds a universal policy); else that
    of the family's document: mappers of the same zoo and recipe, with D of the probe.

    Args:
        name: of the family.
        results: folder of the documents of results.
    """
    measured = read_json(results / "bundles.json")["mappers"]
    if name in measured:
        return dict(measured[name]["origins"])
    return {"probe": read_json(results / f"{name}.json")["losses"]["both"]["splits"]["test-in"]}


def _differences(document: Mapping[str, Any], lengths: list[int]) -> list[str]:
    rows = [
        f"| {name} | {origin} | {' | '.join(_difference(found[str(steps)]) for steps in lengths)} |"
        for name, origins in document["differences"].items()
        for origin, found in origins.items()
    ]
    if not rows:
        return []
    rows += [
        "",
        *(
            f"`{name}` replaces that of before: {'yes' if found else 'no'}."
            for name, found in document["replaces"].items()
        ),
    ]
    head = " | ".join(f"{steps} transitions" for steps in lengths)
    return [
        "",
        f"| return minus that of before, mean [95 %] | D from | {head} |",
        f"| --- | --- |{' --- |' * len(lengths)}",
        *rows,
    ]


def _gap(gap: Mapping[str, float] | None) -> str:
    return NOTHING if gap is None else f"{interval_text(gap)} ({gap['worst_decile']:.2f})"


def _difference(entry: Mapping[str, float]) -> str:
    return f"{entry['mean']:+.1f} [{entry['low']:+.1f}, {entry['high']:+.1f}]"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
