"""Aggregates of a run's cells with intervals, and the comparison of adaptation with learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.common.profiles import performance_profile, probability_of_improvement
from metamap_rl.evaluation.protocol.across import across_zoos, family_of
from metamap_rl.evaluation.protocol.config import LearningConfig
from metamap_rl.evaluation.protocol.learning import steps_to
from metamap_rl.evaluation.protocol.record import FamilyRecord, RunRecord
from metamap_rl.evaluation.protocol.settings import SHARED
from metamap_rl.evaluation.scores import Evaluation, MethodScores, harm_rate, method_name, shares

__all__ = [
    "HEADLINE",
    "THRESHOLDS",
    "headline",
    "learning_summary",
    "pooled",
    "summarise_again",
    "summarise_runs",
]

HEADLINE = 50
"""Length of D of headline scores, if measured."""

THRESHOLDS = np.linspace(-0.5, 1.2, 171)
"""Scores of performance profiles."""

_SEED = 0
_RESAMPLES = 5000


def summarise_runs(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Summarise one run, or several of different families, as JSON values, including raw returns.

    Raises:
        MetaMapError: no run, runs with different shared settings or settings of a method, or a family in two.
    """
    if not runs:
        raise MetaMapError("there is no run to summarise")
    families: dict[str, tuple[FamilyRecord, RunRecord]] = {}
    for run in runs:
        for key in SHARED:
            if getattr(run.config, key) != getattr(runs[0].config, key):
                raise MetaMapError(f"{run.root} and {runs[0].root} were run with different {key}")
        for name in run.config.methods:
            if name in runs[0].config.methods and run.config.method(name) != runs[0].config.method(name):
                raise MetaMapError(f"{run.root} and {runs[0].root} were run with different settings of {name}")
        for family in run.families():
            if family.name in families:
                raise MetaMapError(f"{family.name!r} is in {families[family.name][1].root} and in {run.root}")
            families[family.name] = (family, run)
    steps = headline(runs[0].config.lengths)
    zoos = {name: run.manifest["zoos"][name] for name, (_, run) in families.items()}
    return {
        "configs": [run.config.model_dump(mode="json") for run in runs],
        "headline_steps": steps,
        "families": {name: _family(family, run) for name, (family, run) in families.items()},
        **_over_zoos(
            {name: {split: one.evaluation(split) for split in one.splits} for name, (one, _) in families.items()},
            zoos,
            steps,
        ),
        "zoos": zoos,
        "machines": [run.manifest["machine"] for run in runs],
        "versions": [run.manifest["versions"] for run in runs],
    }


def summarise_again(families: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Recompute the aggregates of stored summaries, from their returns and curves.

    Args:
        families: families by name, as in `summarise_runs`.
        shared: other keys of the summary.

    Returns:
        As `summarise_runs`.
    """
    steps, fresh, evaluations = shared["headline_steps"], {}, {}
    for name, entry in families.items():
        found = {split: Evaluation.from_summary(summary) for split, summary in entry["splits"].items()}
        # Other keys of a split's document are kept.
        splits = {split: entry["splits"][split] | _split(evaluation, steps) for split, evaluation in found.items()}
        named = {key: {method_name(name): value for name, value in entry[key].items()} for key in _BY_METHOD}
        fresh[name] = {**entry, **named, "splits": splits}
        evaluations[name] = found
        if "learning" in entry:
            fresh[name]["learning"] = {**entry["learning"], **_compared(entry["learning"])}
    return {**shared, "families": fresh, **_over_zoos(evaluations, shared["zoos"], steps)}


_BY_METHOD = ("training_steps", "seconds", "records")
"""Parts of a family's summary by method."""


def _over_zoos(
    evaluations: Mapping[str, Mapping[str, Evaluation]], zoos: Mapping[str, Mapping[str, Any]], steps: int
) -> dict[str, Any]:
    """Aggregates over zoos: of several families, pooled, and of several zoos of one family."""
    test_in = {name: found["test-in"] for name, found in evaluations.items() if "test-in" in found}
    several = len({family_of(name, zoos) for name in test_in}) > 1
    return {
        "pooled": pooled(list(test_in.values()) if several else [], steps),
        "across_zoos": across_zoos(evaluations, zoos, steps),
    }


def headline(lengths: Sequence[int]) -> int:
    """`HEADLINE`, or the longest length if it was not measured."""
    return HEADLINE if HEADLINE in lengths else max(lengths)


def _family(family: FamilyRecord, run: RunRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "splits": {split: _split(family.evaluation(split), headline(run.config.lengths)) for split in family.splits},
        "training_steps": {
            name: int(np.mean([cell["training_steps"] for cell in cells])) for name, cells in family.methods.items()
        },
        "seconds": {
            name: float(np.mean([cell["seconds"] for cell in cells])) for name, cells in family.methods.items()
        },
        "records": {name: [cell["record"] for cell in cells] for name, cells in family.methods.items()},
    }
    if family.learning and run.config.learning is not None:
        entry["learning"] = learning_summary(family, run.config.learning)
    return entry


def _split(evaluation: Evaluation, steps: int) -> dict[str, Any]:
    """Aggregates of one split, with comparisons to the mapper and performance profiles."""
    summary = evaluation.summary(generator_seed=_SEED)
    for entry, scores in zip(summary["methods"], evaluation.methods, strict=True):
        mapper = evaluation.at("mapper", steps if scores.steps is None else scores.steps)
        entry["better_than_mapper"] = None
        if mapper is not None and scores.method != "mapper":
            found = probability_of_improvement(scores.returns, mapper.returns, np.random.default_rng(_SEED))
            entry["better_than_mapper"] = {"probability": found.estimate, "low": found.low, "high": found.high}
        if scores.steps in (steps, None):
            values = evaluation.normalised(scores.returns)
            if values.size:
                entry["profile"] = _profile(values)
    return summary


def pooled(evaluations: Sequence[Evaluation], steps: int) -> list[dict[str, Any]]:
    """Methods over all families, on their test-in tasks: normalised score, gap closed and harm, over seeds and tasks.

    Several zoos of a family are pooled as if they were families. Includes only methods that all have, with the minimum
    number of seeds. There is no ratio of sums: returns of different families have different units.
    """
    if len(evaluations) < 2:
        return []
    families = {evaluation.tasks[0].family for evaluation in evaluations}
    rows = []
    for name in dict.fromkeys(scores.method for evaluation in evaluations for scores in evaluation.methods):
        found = [evaluation.at(name, steps) for evaluation in evaluations]
        both = [(one, scores) for one, scores in zip(evaluations, found, strict=True) if scores is not None]
        if len(both) < len(evaluations):
            continue
        seeds = min(len(scores.returns) for _, scores in both)
        row: dict[str, Any] = {"method": name, "seeds": seeds, "families": len(families)}
        rules = {one.counted_by for one, _ in both}
        row["counted_by"] = rules.pop() if len(rules) == 1 else "old rule"
        row["harm"] = _pooled_harm([(one, scores.head(seeds)) for one, scores in both])
        for score in ("normalised", "gap_closed"):
            values = np.concatenate([getattr(one, score)(scores.returns[:seeds]) for one, scores in both], axis=1)
            row["tasks" if score == "normalised" else "counted_tasks"] = values.shape[1]
            row[score] = shares([values], _SEED)
            if score == "normalised" and values.size:
                row["profile"] = _profile(values)
        rows.append(row)
    return rows


def _pooled_harm(found: Sequence[tuple[Evaluation, MethodScores]]) -> dict[str, Any]:
    """Harm over all pairs; by means if it is for one family."""
    harmed = [evaluation.harmed(scores) for evaluation, scores in found]
    known = [one for one in harmed if one is not None]
    if len(known) == len(found):
        return harm_rate([np.concatenate(known, axis=1)], _SEED)
    shares_of = [evaluation.harm(scores)["share"] for evaluation, scores in found]
    tasks = [len(evaluation.tasks) for evaluation, _ in found]
    return {"share": float(np.average(shares_of, weights=tasks)), "by": "means"}


def _profile(values: NDArray[np.float64]) -> dict[str, list[float]]:
    profile = performance_profile(values, THRESHOLDS, np.random.default_rng(_SEED))
    return {"share": profile.share.tolist(), "low": profile.low.tolist(), "high": profile.high.tolist()}


def learning_summary(family: FamilyRecord, config: LearningConfig) -> dict[str, Any]:
    """Environment steps of PPO to the mapped policy's return, by task, and learning curves.

    The level of a task is the mapper's return from ``config.length`` transitions, the mean over seeds. The ratio is
    PPO's environment steps / transitions of D; if a training does not reach the level, it is censored at its last step.
    """
    evaluation = family.evaluation("test-in")
    mapped = evaluation.at("mapper", config.length)
    row = {task.id: index for index, task in enumerate(evaluation.tasks)}
    settings: dict[str, list[dict[str, Any]]] = {}
    for document in family.learning:
        lesson = document["settings"]["lesson"]
        place = row[document["task"]]
        points = np.array(document["points"], dtype=np.float64)
        reach = evaluation.expert[place] - evaluation.random[place]
        entry: dict[str, Any] = {
            "task": document["task"],
            "before": document["before"],
            "steps": points[:, 0].tolist(),
            "normalised": ((points[:, 1] - evaluation.random[place]) / reach).tolist(),
            "returns": points[:, 1].tolist(),
            "budget": int(points[-1, 0]),
        }
        if mapped is not None:
            level = float(mapped.returns[:, place].mean())
            entry |= {
                "level": level,
                "level_normalised": float((level - evaluation.random[place]) / reach),
                "steps_to_level": steps_to(document, level),
            }
        settings.setdefault(f"{lesson['start']}, {lesson['setting']}", []).append(entry)
    summary: dict[str, Any] = {"length": config.length, "curves": settings}
    return summary if mapped is None else {**summary, **_compared(summary)}


def _compared(learning: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios by initial policy and settings, and the compared ones: PPO from phi_0 with the fewest steps."""
    ratios = {name: _ratio(entries, learning["length"]) for name, entries in learning["curves"].items()}
    ours = [name for name in ratios if name.startswith("phi-0")]
    best = {"compared": min(ours, key=lambda name: float(ratios[name]["median"]))} if ours else {}
    return {"ratios": ratios, **best}


def _ratio(entries: Sequence[Mapping[str, Any]], length: int) -> dict[str, Any]:
    """Median over tasks of PPO's environment steps to the level / transitions of D, with a bootstrap interval.

    A run that does not reach the level is censored: its ratio is above ``more_than``. If half of the runs are, so is
    the median, and there is no interval.
    """
    censored = np.array([entry["steps_to_level"] is None for entry in entries])
    steps = np.array(
        [entry["budget" if late else "steps_to_level"] for entry, late in zip(entries, censored, strict=True)]
    )
    ratios = steps / length
    draws = np.random.default_rng(_SEED).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    known = 2 * censored.sum() < len(entries)
    return {
        "tasks": len(entries),
        "seeds": 1,
        "reached": int((~censored).sum()),
        "more_than": float(ratios[censored].min()) if censored.any() else None,
        "median": float(np.median(ratios)),
        "low": float(low) if known else None,
        "high": float(high) if known else None,
        "median_steps": float(np.median(steps)),
        "ratios": ratios.tolist(),
    }


def curve_over_tasks(
    entries: Sequence[dict[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Environment steps, normalised scores [tasks, N] at common steps, and environment steps before PPO.

    If trainings were evaluated at different steps, only the common ones are used.
    """
    common = sorted(set.intersection(*(set(entry["steps"]) for entry in entries)))
    rows = [[entry["normalised"][entry["steps"].index(step)] for step in common] for entry in entries]
    return np.array(common), np.array(rows), np.array([entry["before"] for entry in entries], dtype=np.float64)
