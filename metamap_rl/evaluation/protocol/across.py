"""Methods over several zoos of a family: aggregates with three-way intervals, seen and newly drawn tasks apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_rl.common.statistics import iqm
from metamap_rl.evaluation.scores import Evaluation, harm_rate, shares, summed_ratio

__all__ = ["GROUPS", "across_zoos", "family_of"]

GROUPS = ("all", "seen", "new")
"""Groups of zoos: all; those whose test tasks were measured before the design was final; those with new ones."""

_SEED = 0


def family_of(name: str, zoos: Mapping[str, Mapping[str, Any]]) -> str:
    """The family of a zoo of a run; runs of earlier versions have one zoo of each, named as it is."""
    return str(zoos[name].get("family", name))


def across_zoos(
    evaluations: Mapping[str, Mapping[str, Evaluation]], zoos: Mapping[str, Mapping[str, Any]], steps: int
) -> dict[str, Any]:
    """Aggregate the zoos of each family of which there are several.

    Intervals are of the three-way bootstrap of `metamap_rl.common.resampling`: zoos, and in each its seeds and tasks.
    A group of one zoo has the crossed bootstrap of that zoo.

    Args:
        evaluations: by name of the zoo and split.
        zoos: manifest entries of the zoos by name.
        steps: length of D at which methods without D are compared with the mapper.

    Returns:
        JSON values by family and split: a list of groups of `GROUPS` with their zoos and ``methods``, those methods and
        lengths of D that all zoos of the group have.
    """
    families: dict[str, list[str]] = {}
    for name in evaluations:
        families.setdefault(family_of(name, zoos), []).append(name)
    found: dict[str, dict[str, Any]] = {}
    for family, names in families.items():
        splits = dict.fromkeys(split for name in names for split in evaluations[name]) if len(names) > 1 else {}
        for split in splits:
            having = {name: evaluations[name][split] for name in names if split in evaluations[name]}
            found.setdefault(family, {})[split] = _groups(having, zoos, steps)
    return found


def _groups(found: Mapping[str, Evaluation], zoos: Mapping[str, Mapping[str, Any]], steps: int) -> list[dict[str, Any]]:
    seen = [name for name in found if zoos[name].get("seen")]
    new = [name for name in found if name not in seen]
    groups = {"all": list(found)} | ({"seen": seen, "new": new} if seen and new else {})
    return [
        {"group": group, "zoos": names, "methods": _rows({name: found[name] for name in names}, steps)}
        for group, names in groups.items()
    ]


def _rows(found: Mapping[str, Evaluation], steps: int) -> list[dict[str, Any]]:
    places = [[(one.method, one.steps) for one in evaluation.methods] for evaluation in found.values()]
    return [_row(found, *place, steps) for place in places[0] if all(place in others for others in places[1:])]


def _row(found: Mapping[str, Evaluation], method: str, length: int | None, steps: int) -> dict[str, Any]:
    both = [(one, next(s for s in one.methods if (s.method, s.steps) == (method, length))) for one in found.values()]
    gaps = [evaluation.gap_closed(scores.returns) for evaluation, scores in both]
    harmed = [evaluation.harmed(scores) for evaluation, scores in both]
    known = [one for one in harmed if one is not None]
    ratio = summed_ratio(
        [evaluation.gains(scores.returns) for evaluation, scores in both],
        [evaluation.expert - evaluation.base for evaluation, _ in both],
        _SEED,
    )
    return {
        "method": method,
        "steps": length,
        "seeds": [len(scores.returns) for _, scores in both],
        "tasks": sum(len(evaluation.tasks) for evaluation, _ in both),
        "counted_tasks": sum(gap.shape[1] for gap in gaps),
        "gap_closed": shares(gaps, _SEED),
        "by_zoo": {name: iqm(gap) if gap.size else None for name, gap in zip(found, gaps, strict=True)},
        "ratio_of_sums": ratio,
        "harm": harm_rate(known, _SEED) if len(known) == len(both) else None,
        "above_mapper": _above_mapper(list(found.values()), gaps, method, steps if length is None else length),
    }


def _above_mapper(
    found: Sequence[Evaluation], gaps: Sequence[NDArray[np.float64]], method: str, steps: int
) -> dict[str, Any] | None:
    """Gap closed minus the mapper's, paired by zoo, seed and task; None without the mapper at that length."""
    mapped = [evaluation.at("mapper", steps) for evaluation in found]
    if method == "mapper" or any(scores is None for scores in mapped):
        return None
    differences = []
    for evaluation, scores, gap in zip(found, mapped, gaps, strict=True):
        assert scores is not None
        theirs = evaluation.gap_closed(scores.returns)
        rows = min(len(gap), len(theirs)) if len(gap) > 1 else len(theirs)  # one row: the same for every seed
        differences.append(gap[:rows] - theirs[:rows])
    return shares(differences, _SEED)
