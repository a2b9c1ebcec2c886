"""Output of the mapper commands: a mapper, and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamap_rl.cli.console import say

if TYPE_CHECKING:
    from metamap_rl.evaluation.evaluate import Evaluation
    from metamap_rl.mapper.mapper import Mapper

__all__ = ["mapper_document", "print_evaluation", "print_mapper"]


def mapper_document(mapper: Mapper, folder: Path) -> dict[str, Any]:
    """A mapper as JSON: its manifest and derived sizes."""
    from metamap_agents.runtime.storage import read_json
    from metamap_rl.mapper import artifact

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
        "actors": mapper.actors,
        "config": manifest["config"],
        "record": record,
        "check": None if mapper.check is None else mapper.check.describe(),
        "universal": None if mapper.universal is None else mapper.universal.describe(),
        "validation": _least_validation(history, folder / artifact.MANIFEST_FILE),
        "versions": manifest["versions"],
    }


def _least_validation(history: Any, path: Path) -> float | None:
    """The lowest validation loss of a training; None without validation."""
    from metamap_envs.errors import MetaMapError

    try:
        return min((float(entry["validation"]) for entry in history), default=None)
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: record: history: expected a validation loss in each entry") from None


def print_mapper(mapper: Mapper, folder: Path) -> None:
    """Print a mapper."""
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
        "D came from": _actors_text(mapper),
        "trained on": f"experts of {record.get('training_tasks', 'unknown')} tasks and a survey of "
        f"{record.get('survey_tasks', 'unknown')} tasks without{_rounds_text(training)}, "
        f"loss {training.get('loss', 'unknown')}, seed {training.get('seed', 'unknown')}",
        "updates": f"{record.get('updates', 'unknown')}, chosen at {record.get('chosen_update', 'unknown')}",
        "validation": "none" if document["validation"] is None else f"{document['validation']:.5f}",
        "self-check": _check_text(mapper),
        "universal policy": _universal_text(mapper),
        "versions": ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
    }
    for name, text in lines.items():
        say(f"  {name:<16} {text}")


def _rounds_text(training: dict[str, Any]) -> str:
    """Rounds in service, if there were any."""
    rounds = training.get("service_rounds")
    return f", {rounds} round{'' if rounds == 1 else 's'} in service" if rounds else ""


def _actors_text(mapper: Mapper) -> str:
    """The mixture of actors that D came from in training."""
    from metamap_envs.settings import parse
    from metamap_rl.probing.actors import ACTORS, ActorMixture

    if not mapper.actors:
        return "its probe alone"
    mixture = parse(ActorMixture, mapper.actors, "actors of the mapper")
    shares = zip(ACTORS, mixture.shares, strict=True)
    text = ", ".join(f"{name} {share / sum(mixture.shares):.0%}" for name, share in shares if share)
    noise, before = mixture.actor_noise, mixture.steps_before
    return (
        f"{text}; noise {noise[0]} to {noise[1]}; but for the probe, {mixture.started_share:.0%} of them start after "
        f"{before[0]} to {before[1]} steps of a wrong expert, and in {mixture.change_share:.0%} the task changes"
    )


def _check_text(mapper: Mapper) -> str:
    if mapper.check is None:
        return "none"
    least = mapper.check.least_steps
    return "trusts no length of D" if least is None else f"needs {least} transitions or more"


def _universal_text(mapper: Mapper) -> str:
    if mapper.universal is None:
        return "none"
    return f"given {', '.join(mapper.universal.parameters) or 'no parameter'}"


def print_evaluation(evaluation: Evaluation, document: dict[str, Any]) -> None:
    """Print the tables of scores: gap closed and ratio of sums, what an average hides, normalised returns."""
    _print_heading(evaluation, document)
    say()
    _print_scores(evaluation, document)
    _print_beside("gap closed, beside the IQM [95 %]", document, "gap_closed", harm=True)
    _print_beside("normalised: random actions 0, expert 1 [95 %]", document, "normalised", harm=False)
    say(
        "\nD: transitions of it; [95 %]: interval of a bootstrap over mappers and tasks"
        "\nratio of sums: of J - J_base over J_expert - J_base, over all tasks"
        "\nworst decile: mean of the lowest tenth"
        "\nharm: share of pairs of mapper and task that are worse than the base policy in the"
        "\n  paired test at 5 %"
    )


def _print_heading(evaluation: Evaluation, document: dict[str, Any]) -> None:
    """Tasks and episodes, and the tasks with a gap."""
    from metamap_rl.evaluation.score_text import rule_text, uncounted_text

    count = len(evaluation.tasks)
    say(
        f"tasks: {count} of {document['split']}, mappers: {document['seeds']}, episodes for each task: "
        f"{evaluation.episodes}, of base policy and expert: {evaluation.reference_episodes}, "
        f"D from: {document['d_from']}\n"
        f"{document['counted_tasks']} of {count} tasks have a gap to close: {rule_text(document)}"
    )
    if evaluation.reference_episodes == 1:
        say("a paired test needs more than one episode: use --episodes 10")
    if document["counted_tasks"] < count:
        say(f"not in gap closed (base policy -> expert): {uncounted_text(document)}")


def _print_scores(evaluation: Evaluation, document: dict[str, Any]) -> None:
    from metamap_rl.cli.console import print_table
    from metamap_rl.evaluation.score_text import interval_text, ratio_text

    rows: list[tuple[str, ...]] = [
        ("random actions", "", f"{evaluation.random.mean():.1f}", "", ""),
        ("base policy", "", f"{evaluation.base.mean():.1f}", "0 by definition", "0 by definition"),
        ("expert", "", f"{evaluation.expert.mean():.1f}", "1 by definition", "1 by definition"),
    ]
    rows += [
        (
            *_names(entry),
            f"{entry['mean_return']:.1f}",
            interval_text(entry["gap_closed"]),
            ratio_text(entry["ratio_of_sums"]),
        )
        for entry in document["methods"]
    ]
    header = ("method", "D", "return", "gap closed: IQM [95 %]", "ratio of sums [95 %]")
    print_table(header, rows, right=("D", "return"))


def _print_beside(title: str, document: dict[str, Any], score: str, *, harm: bool) -> None:
    """Print what stands beside one score: for the gap closed with harm, else with its interquartile mean."""
    from metamap_rl.cli.console import print_table
    from metamap_rl.evaluation.score_text import harm_text, interval_text, number_text

    rows = []
    for entry in document["methods"]:
        mean, worst = (number_text(entry[score], key) for key in ("mean", "worst_decile"))
        beside = (mean, worst, harm_text(entry["harm"])) if harm else (interval_text(entry[score]), mean, worst)
        rows.append((", ".join(filter(None, _names(entry))), *beside))  # one column, to fit 80 characters
    columns = ("mean", "worst decile", "harm") if harm else ("IQM", "mean", "worst decile")
    say()
    print_table(("method, D", *columns), rows, title=title)


def _names(entry: dict[str, Any]) -> tuple[str, str]:
    from metamap_rl.evaluation.score_text import method_text

    return method_text(entry["method"]), "" if entry["steps"] is None else str(entry["steps"])
