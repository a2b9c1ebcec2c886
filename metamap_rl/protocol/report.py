"""From a run's cells to its numbers: aggregates with intervals, and the comparison of adaptation with learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.evaluate import Evaluation, MethodScores
from metamap_rl.protocol.config import SHARED, LearningConfig
from metamap_rl.protocol.learning import steps_to
from metamap_rl.protocol.record import FamilyRecord, RunRecord
from metamap_rl.statistics import bootstrap_interval, performance_profile, probability_of_improvement

__all__ = ["HEADLINE", "THRESHOLDS", "headline", "learning_summary", "pooled", "summarise_runs"]

HEADLINE = 50
"""Steps of D at which methods are compared in a single number, where that was measured."""

THRESHOLDS = np.linspace(-0.5, 1.2, 171)
"""Scores of performance profiles."""

_SEED = 0
_RESAMPLES = 5000


def summarise_runs(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Everything about one run, or several of different families, as plain JSON values, raw returns included.

    Raises:
        MetaMapError: no run, runs with different settings of what they share or of a method, or a family in two.
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
    return {
        "configs": [run.config.model_dump(mode="json") for run in runs],
        "headline_steps": steps,
        "families": {name: _family(family, run) for name, (family, run) in families.items()},
        "pooled": pooled([family for family, _ in families.values()], steps),
        "zoos": {name: run.manifest["zoos"][name] for name, (_, run) in families.items()},
        "machines": [run.manifest["machine"] for run in runs],
        "versions": [run.manifest["versions"] for run in runs],
    }


def headline(lengths: Sequence[int]) -> int:
    """`HEADLINE`, or the longest length where that was not measured."""
    return HEADLINE if HEADLINE in lengths else max(lengths)


def at(evaluation: Evaluation, method: str, steps: int) -> MethodScores | None:
    """A method's scores with k steps, or those that need none."""
    for scores in evaluation.methods:
        if scores.method == method and scores.steps in (steps, None):
            return scores
    return None


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
    """Aggregates of one split; every method also beside the mapper, and its profile."""
    summary = evaluation.summary(generator_seed=_SEED)
    for entry, scores in zip(summary["methods"], evaluation.methods, strict=True):
        mapper = at(evaluation, "mapper", steps if scores.steps is None else scores.steps)
        entry["better_than_mapper"] = None
        if mapper is not None and scores.method != "mapper":
            found = probability_of_improvement(scores.returns, mapper.returns, np.random.default_rng(_SEED))
            entry["better_than_mapper"] = {"probability": found.estimate, "low": found.low, "high": found.high}
        if scores.steps in (steps, None):
            values = evaluation.normalised(scores.returns)
            if values.size:
                profile = performance_profile(values, THRESHOLDS, np.random.default_rng(_SEED))
                entry["profile"] = {
                    "share": profile.share.tolist(),
                    "low": profile.low.tolist(),
                    "high": profile.high.tolist(),
                }
    return summary


def pooled(families: Sequence[FamilyRecord], steps: int) -> list[dict[str, Any]]:
    """Methods over all families, on test-in tasks: normalised score and gap closed, IQM over seeds and tasks.

    A method counts if every family has it, with as many seeds as all of them have; the others are left out.
    """
    evaluations = [family.evaluation("test-in") for family in families if "test-in" in family.splits]
    if len(evaluations) < 2:
        return []
    rows = []
    for name in dict.fromkeys(scores.method for evaluation in evaluations for scores in evaluation.methods):
        found = [at(evaluation, name, steps) for evaluation in evaluations]
        both = [(one, scores) for one, scores in zip(evaluations, found, strict=True) if scores is not None]
        if len(both) < len(evaluations):
            continue
        seeds = min(len(scores.returns) for _, scores in both)
        row: dict[str, Any] = {"method": name, "seeds": seeds, "families": len(both)}
        for score in ("normalised", "gap_closed"):
            values = np.concatenate([getattr(one, score)(scores.returns[:seeds]) for one, scores in both], axis=1)
            row["tasks" if score == "normalised" else "counted_tasks"] = values.shape[1]
            row[score] = None
            if values.size:
                interval = bootstrap_interval(values, np.random.default_rng(_SEED))
                row[score] = {"iqm": interval.estimate, "low": interval.low, "high": interval.high}
            if score == "normalised" and values.size:
                profile = performance_profile(values, THRESHOLDS, np.random.default_rng(_SEED))
                row["profile"] = {
                    "share": profile.share.tolist(),
                    "low": profile.low.tolist(),
                    "high": profile.high.tolist(),
                }
        rows.append(row)
    return rows


def learning_summary(family: FamilyRecord, config: LearningConfig) -> dict[str, Any]:
    """Environment steps of PPO to the mapped policy's return, task by task, and the curves.

    Per task the level is the mapper's return from ``config.length`` steps, the mean over seeds. A training that never
    measured it counts with all its steps, so that its ratio is a lower bound. The ratio is PPO's steps / steps of D.
    """
    evaluation = family.evaluation("test-in")
    mapped = at(evaluation, "mapper", config.length)
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
    if mapped is not None:
        summary["ratios"] = {name: _ratio(entries, config.length) for name, entries in settings.items()}
        ours = [name for name in summary["ratios"] if name.startswith("phi-0")]
        if ours:  # the comparison is with the PPO that needs the fewest steps
            summary["compared"] = min(ours, key=lambda name: float(summary["ratios"][name]["median"]))
    return summary


def _ratio(entries: Sequence[dict[str, Any]], length: int) -> dict[str, Any]:
    """Median over tasks of PPO's steps to the level over the steps of D, with a bootstrap interval over tasks."""
    found = [(entry["steps_to_level"], entry["budget"]) for entry in entries]
    steps = np.array([budget if needed is None else needed for needed, budget in found])
    ratios = steps / length
    draws = np.random.default_rng(_SEED).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        "tasks": len(entries),
        "reached": sum(entry["steps_to_level"] is not None for entry in entries),
        "median": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "median_steps": float(np.median(steps)),
        "ratios": ratios.tolist(),
    }


def curve_over_tasks(
    entries: Sequence[dict[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps and normalised scores [tasks, N] of trainings that were measured at the same steps; and the steps before.

    Trainings of one kind are measured at the same steps; where one has others, those that are common are taken.
    """
    common = sorted(set.intersection(*(set(entry["steps"]) for entry in entries)))
    rows = [[entry["normalised"][entry["steps"].index(step)] for step in common] for entry in entries]
    return np.array(common), np.array(rows), np.array([entry["before"] for entry in entries], dtype=np.float64)
