"""What the commands about mappers print: a mapper, and how well mappers do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamap_rl.cli.console import say

if TYPE_CHECKING:
    from metamap_rl.evaluate import Evaluation
    from metamap_rl.mapper import Mapper

__all__ = ["mapper_document", "print_evaluation", "print_mapper"]


def mapper_document(mapper: Mapper, folder: Path) -> dict[str, Any]:
    """A mapper for JSON: its manifest, and the sizes that follow from it."""
    from metamap_agents.storage import read_json
    from metamap_rl import artifact

    manifest = read_json(folder / artifact.MANIFEST_FILE)
    record = dict(manifest["record"])
    history = record.pop("history", [])
    return {
        "folder": folder,
        "family": mapper.family,
        "policy": {**mapper.base.spec.to_json(), "weights": mapper.base.spec.size},
        "numbers_per_transition": mapper.feature_size,
        "mapper_weights": sum(parameter.numel() for parameter in mapper.parameters()),
        "probe": mapper.probe,
        "config": manifest["config"],
        "record": record,
        "check": None if mapper.check is None else mapper.check.describe(),
        "validation": _least_validation(history, folder / artifact.MANIFEST_FILE),
        "versions": manifest["versions"],
    }


def _least_validation(history: Any, path: Path) -> float | None:
    """The least validation loss of a training; None if nothing was validated."""
    from metamap_envs.errors import MetaMapError

    try:
        return min((float(entry["validation"]) for entry in history), default=None)
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: record: history: expected a validation loss in each entry") from None


def print_mapper(mapper: Mapper, folder: Path) -> None:
    """Print a mapper for people."""
    document = mapper_document(mapper, folder)
    record, spec = document["record"], mapper.base.spec
    training = record.get("config")
    training = training if isinstance(training, dict) else {}
    layers = " -> ".join(str(size) for size in (spec.observation_size, *spec.hidden, spec.action_size))
    lines = {
        "folder": str(folder),
        "family": mapper.family,
        "makes": f"{spec.size:,} weights of a {spec.activation} network {layers}",
        "reads": f"transitions of {mapper.feature_size} numbers, any number of them",
        "own weights": f"{document['mapper_weights']:,}",
        "shape": ", ".join(f"{name} {value}" for name, value in document["config"].items()),
        "probe": ", ".join(f"{name} {value}" for name, value in mapper.probe.items()) or "unknown",
        "trained on": f"experts of {record.get('training_tasks', 'unknown')} tasks and a survey of "
        f"{record.get('survey_tasks', 'unknown')} tasks without, loss {training.get('loss', 'unknown')}, "
        f"seed {training.get('seed', 'unknown')}",
        "updates": f"{record.get('updates', 'unknown')}, chosen at {record.get('chosen_update', 'unknown')}",
        "validation": "none" if document["validation"] is None else f"{document['validation']:.5f}",
        "tuned": _tuning_text(record.get("tuning")),
        "self-check": _check_text(mapper),
        "versions": ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
    }
    for name, text in lines.items():
        say(f"  {name:<12} {text}")


def _tuning_text(tuning: Any) -> str:
    """What policy gradient made of it; see `metamap_rl.tuning`."""
    if not isinstance(tuning, dict):
        return "no"
    steps, chosen = tuning.get("environment_steps", "unknown"), tuning.get("chosen_iteration", "unknown")
    kept = "kept as it was" if chosen == 0 else f"chosen after round {chosen}"
    again = ", tuned before that" if "before" in tuning else ""
    return f"by policy gradient over {steps} environment steps, {kept}{again}; updates and validation are those before"


def _check_text(mapper: Mapper) -> str:
    if mapper.check is None:
        return "none"
    least = mapper.check.least_steps
    return "trusts no length of D" if least is None else f"needs {least} transitions or more"


def print_evaluation(evaluation: Evaluation, document: dict[str, Any]) -> None:
    """Print the protocol's table."""
    from metamap_rl.cli.console import print_table

    count = len(evaluation.tasks)
    say(
        f"tasks: {count} of {document['split']}, mappers: {document['seeds']}, episodes for each task: "
        f"{evaluation.episodes}\n"
        f"gap closed counts {document['counted_tasks']} of {count} tasks: in the others the expert barely beats the "
        f"base policy\n"
    )
    rows: list[tuple[str, ...]] = [
        ("random actions", "", f"{evaluation.random.mean():.1f}", "", "0 by definition"),
        ("base policy", "", f"{evaluation.base.mean():.1f}", "0 by definition", ""),
        ("expert", "", f"{evaluation.expert.mean():.1f}", "1 by definition", "1 by definition"),
    ]
    rows += [
        (
            entry["method"],
            "" if entry["steps"] is None else str(entry["steps"]),
            f"{entry['mean_return']:.1f}",
            _interval(entry["gap_closed"]),
            _interval(entry["normalised"]),
        )
        for entry in document["methods"]
    ]
    right = ("steps of D", "return")
    print_table(("method", *right, "gap closed, IQM [95 %]", "normalised, IQM [95 %]"), rows, right=right)


def _interval(score: dict[str, float] | None) -> str:
    return "no task counts" if score is None else f"{score['iqm']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
