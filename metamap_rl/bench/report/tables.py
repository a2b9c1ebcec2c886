"""The tables of a report: columns and number formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from metamap_rl.bench.report.origins import origins
from metamap_rl.bench.summary import Estimate, Group, Summary
from metamap_rl.common.numbers import decimals
from metamap_rl.stream.metrics import COSTS, FORMULAS

__all__ = [
    "HEADLINE",
    "LOWER_IS_BETTER",
    "METRIC_NAMES",
    "PARTLY",
    "TITLES",
    "best_of",
    "cells_csv",
    "in_words",
    "latex",
    "markdown",
    "number",
    "retrained",
    "summary_csv",
    "text",
]

HEADLINE = ("GEN_k", "GAP_k", "AP_final", "AP_anytime", "F_last", "FWT_zs", "FT_auc", "MEM", "UPD", "ENV")
"""Metrics shown first: new tasks before those that were learned."""

METRIC_NAMES = (*HEADLINE, *(name for name in FORMULAS if name not in HEADLINE))

LOWER_IS_BETTER = frozenset({"F_last", "F_cw", "F_max", "F_iso", "NBT", "REG_dyn", "MEM", "UPD", "LAT", "ENV"})
"""Metrics of which less is better; of all others more is."""

TITLES = {
    "GEN_k": "held-out tasks",
    "GAP_k": "gap closed, held-out",
    "AP_final": "score at the end",
    "AP_anytime": "score on the way",
    "F_last": "forgotten",
    "FWT_zs": "before learning",
    "FT_auc": "faster than alone",
    "MEM": "memory",
    "UPD": "time of an update",
    "ENV": "environment steps",
    "LAT": "from D to a policy",
    "F_cw": "forgotten, all tasks",
    "BWT": "backward transfer",
    "F_max": "forgotten since the best",
    "F_iso": "forgotten in a stage",
    "NBT": "forgotten, mean over time",
    "PM": "performance kept",
    "PR": "recovery",
    "ABC": "ahead of alone",
    "JS": "jump start",
    "BWT_families": "families kept, held-out",
    "REG_dyn": "regret",
    "PLA": "plasticity",
}
"""Names in words of the metrics."""

PARTLY = "(n of N): only n of the N cells have the metric; value and interval are of these."
"""Explanation of values that are not of all cells."""

_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "MEM": ((1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "UPD": ((1.0, "s"), (1e-3, "ms")),
    "LAT": ((1.0, "s"), (1e-3, "ms")),
    "ENV": ((1e6, "M"), (1e3, "k"), (1.0, "")),
}
"""Scale and unit of each cost, largest first; the first not above the value is used."""


def number(name: str, value: float) -> str:
    """Format a value of a metric, with its unit."""
    if name not in COSTS:
        return decimals(value, 3)
    scale, unit = _scale(name, value)
    return f"{value / scale:.3g} {unit}".rstrip()


def text(name: str, estimate: Estimate | None) -> tuple[str, str]:
    """(value, interval) as text; a dash if undefined, "(n of N)" if only some cells have the metric.

    The interval of a cost is in the unit of its value.
    """
    if estimate is None:
        return "–", ""
    value = number(name, estimate.value)
    if estimate.cells < estimate.of:
        value += f" ({estimate.cells} of {estimate.of})"
    if estimate.low is None or estimate.high is None:
        return value, ""
    if name not in COSTS:
        return value, f"[{number(name, estimate.low)}, {number(name, estimate.high)}]"
    scale, _ = _scale(name, estimate.value)
    return value, f"[{estimate.low / scale:.3g}, {estimate.high / scale:.3g}]"


def _scale(name: str, value: float) -> tuple[float, str]:
    """Scale and unit of a cost."""
    return next((pair for pair in _UNITS[name] if abs(value) >= pair[0]), _UNITS[name][-1])


def best_of(groups: Sequence[Group], name: str) -> float | None:
    """The best value of a metric among learners of one stream; None if fewer than two differ."""
    values = [found.value for group in groups if (found := group.metrics.get(name)) is not None]
    if len(set(values)) < 2:
        return None
    return min(values) if name in LOWER_IS_BETTER else max(values)


def in_words(group: Group) -> str:
    """Numbers of seeds and orders of a row."""
    seeds, orders = {cell.seed for cell in group.cells}, {cell.order for cell in group.cells}
    return f"{len(seeds)} x {len(orders)}"


def retrained(summary: Summary) -> list[str]:
    """Sentences on learners with dashes because they are retrained at intervals."""
    return [
        f"{learner} is retrained only after every {every} tasks and after the last: between its retrainings its scores "
        "are those of an older mapper, so metrics that depend on them have a dash."
        for learner, every in dict.fromkeys((group.learner, group.every) for group in summary.groups)
        if every > 1
    ]


def _notes(summary: Summary) -> list[str]:
    """Notes on values and dashes of the headline table, as sentences."""
    made = [found for group in summary.groups for name in HEADLINE if (found := group.metrics.get(name)) is not None]
    return [
        *retrained(summary),
        *origins(summary),
        *([PARTLY] if any(found.cells < found.of for found in made) else []),
    ]


def _rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    columns = ["stream", "learner", "seeds x orders", *HEADLINE]
    rows = []
    for group in summary.groups:
        cells = [" ".join(text(name, group.metrics.get(name))).strip() for name in HEADLINE]
        rows.append([group.stream, group.learner, in_words(group), *cells])
    return columns, rows


def markdown(summary: Summary) -> str:
    """The headline table in Markdown, with formulas and notes."""
    columns, rows = _rows(summary)
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", *(f"- {name} = `{FORMULAS[name]}`" for name in HEADLINE), ""]
    return "\n".join([*lines, *(line for note in _notes(summary) for line in (note, ""))])


def latex(summary: Summary) -> str:
    """The headline table in LaTeX (booktabs), with notes."""
    columns, rows = _rows(summary)
    body = "\n".join(" & ".join(map(_escaped, row)) + r" \\" for row in rows)
    head = " & ".join(map(_escaped, columns)) + r" \\"
    layout = "ll" + "r" * (len(columns) - 2)
    below = "".join(f"\n{{\\footnotesize {_escaped(note)}\\par}}\n" for note in _notes(summary))
    table = f"\\begin{{tabular}}{{{layout}}}\n\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    return table + below


def _escaped(words: str) -> str:
    for sign, instead in (("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("–", "--"), (" x ", r" $\times$ ")):
        words = words.replace(sign, instead)
    return words


def cells_csv(summary: Summary) -> str:
    """Every metric of every cell."""
    rows: list[Sequence[object]] = [("stream", "learner", "order", "seed", *METRIC_NAMES)]
    for cell in summary.cells:
        found = cell.metrics
        values = ["" if found.get(name) is None else repr(found[name]) for name in METRIC_NAMES]
        rows.append((cell.stream, cell.learner, cell.order, cell.seed, *values))
    return _csv(rows)


def summary_csv(summary: Summary) -> str:
    """Every metric of every learner on every stream, with its interval."""
    rows: list[Sequence[object]] = [("stream", "learner", "metric", "value", "low", "high", "seeds", "orders", "cells")]
    for group in summary.groups:
        for name in METRIC_NAMES:
            found = group.metrics.get(name)
            if found is not None:
                low, high = ("" if bound is None else repr(bound) for bound in (found.low, found.high))
                counts = found.seeds, found.orders, found.cells
                rows.append((group.stream, group.learner, name, repr(found.value), low, high, *counts))
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return content.getvalue()
