"""What came out of a benchmark, in words."""

from __future__ import annotations

from collections.abc import Sequence

from metamap_rl.bench.report.tables import number, text
from metamap_rl.bench.summary import Estimate, Group, Summary

__all__ = ["ONE_SEED", "described", "verdict"]

ONE_SEED = "One seed: no interval."

_SCORE, _MEMORY = "AP_final", "MEM"
_MOST = 4  # learners named beside the best one


def verdict(summary: Summary) -> list[str]:
    """A sentence or two for each stream: who ends highest, what the others keep of it, and at what memory."""
    return [_of_stream(stream, summary.of_stream(stream)) for stream in summary.streams]


def described(groups: Sequence[Group]) -> str:
    """A stream and what ran on it, in a sentence."""
    first = groups[0].cells[0]
    families = ", ".join(dict.fromkeys(sorted(first.families)))
    orders = len({cell.order for group in groups for cell in group.cells})
    seeds = len({cell.seed for group in groups for cell in group.cells})
    counted = f"{_count(orders, 'order')}, {_count(seeds, 'seed')}"
    return f"{_count(len(first.tasks), 'task')} of {families}; {counted}." + (f" {ONE_SEED}" if seeds == 1 else "")


def _of_stream(stream: str, groups: Sequence[Group]) -> str:
    scored = [(found, group) for group in groups if (found := group.metrics.get(_SCORE)) is not None]
    if not scored:
        return f"{stream}: no learner has a score after the last stage."
    scored.sort(key=lambda pair: -pair[0].value)
    (highest, best), others = scored[0], scored[1:]
    value = " ".join(text(_SCORE, highest)).strip()
    level = [group.learner for found, group in others if _overlap(highest, found)]
    unsure = f", not told apart from {_listed(level)} by the intervals" if level else ""
    kept = [_kept(found, group, highest, best) for found, group in others[:_MOST]]
    if left := others[_MOST:]:
        kept.append(f"the other {len(left)} have {number(_SCORE, left[0][0].value)} or less")
    rest = f" {_listed(kept)}." if kept else ""
    one = "" if highest.low is not None else f" {ONE_SEED}"
    return f"{stream}: {best.learner} ends highest, {_SCORE} {value}{unsure}.{rest}{one}"


def _kept(found: Estimate, group: Group, highest: Estimate, best: Group) -> str:
    """What a learner keeps of the best one's score."""
    if min(highest.value, found.value) <= 0:
        return f"{group.learner} has {number(_SCORE, found.value)}"
    memory, theirs = (one.metrics.get(_MEMORY) for one in (group, best))
    at = _memory(memory.value / theirs.value) if memory and theirs and theirs.value else ""
    return f"{group.learner} keeps {100 * found.value / highest.value:.0f} % of it{at}"


def _memory(times: float) -> str:
    """A memory, as a multiple of the best learner's."""
    if not times:
        return " without a memory"
    return " at the same memory" if f"{times:.2g}" == "1" else f" at {times:.2g} times its memory"


def _overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals overlap; False without intervals, which are no evidence either way."""
    return None not in (first.low, second.high) and float(first.low or 0.0) <= float(second.high or 0.0)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
