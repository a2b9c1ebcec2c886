"""Add every episode of base policy and experts to documents that keep means, and count their tasks by the paired test.

For documents of `measure_adaptation.py` and of `protocol_results.py` (docs/results/protocol), from a zoo of their
family. The zoo must be theirs: on the same reset seeds its base policy, experts and random actions must return, task by
task, what the document says, or nothing is written. A zoo is rebuilt to the bit by the same command on a machine of
the same kind; of the training tasks it needs none:

    metamap experts train pendulum-swingup --train 1 --validation 1 --test-out 8 --out runs/zoo/pendulum-swingup
    python scripts/recount.py docs/results/pendulum-swingup.json --zoo-root runs/zoo
    python scripts/results_table.py --into README.md docs/adaptation.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import evaluate_policies, random_returns
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_rl.evaluation.scores import Evaluation, rounded

TOLERANCE = 1e-6
"""Most that a mean return may differ by, as a share of it."""

Returns = dict[str, NDArray[np.float64]]


def episodes(zoo: Zoo, tasks: list[Task], count: int) -> Returns:
    """Returns of every episode [T, E] of random actions, base policy and experts.

    Raises:
        MetaMapError: the zoo lacks an expert.
    """
    missing = zoo.missing(tasks)
    if missing:
        raise MetaMapError(f"{zoo.root} lacks the experts of {len(missing)} tasks, {missing[0].describe()} among them")
    base, phis = zoo.base, np.stack([zoo.get(task).phi for task in tasks])
    both = (evaluate_policies(tasks, base.policies(policy), episodes=count).returns for policy in (base.phi, phis))
    return {"random": random_returns(tasks, episodes=count), **dict(zip(("base", "expert"), both, strict=True))}


def recounted(summary: dict[str, Any], zoo: Zoo, place: str) -> dict[str, Any]:
    """One split, with its episodes, counted by the paired test.

    Raises:
        MetaMapError: the zoo is another one than the document's.
    """
    tasks = [Task.from_json(task) for task in summary["tasks"]]
    for name, returns in (found := episodes(zoo, tasks, summary["episodes"])).items():
        stored = np.array(summary[f"{name}_returns"])
        distance = np.abs(returns.mean(axis=1) - stored) / np.maximum(np.abs(stored), 1.0)
        if distance.max() > TOLERANCE:
            raise MetaMapError(
                f"{place}: {zoo.root} is not its zoo: the {name} returns differ by up to {distance.max():.2g} of theirs"
            )
    added = {f"{name}_episode_returns": rounded(returns) for name, returns in found.items()}
    fresh = Evaluation.from_summary({**summary, **added}).summary()
    extra = [{**old, **new} for old, new in zip(summary["methods"], fresh["methods"], strict=True)]
    return {**summary, **fresh, "methods": extra}


def splits_of(document: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(Where it is, a document's splits by name), each of them to be changed in place.

    Raises:
        MetaMapError: it is of another script.
    """
    if not isinstance(document, dict) or not ("losses" in document or "splits" in document):
        raise MetaMapError(f"{path}: expected a document of measure_adaptation.py or protocol_results.py")
    for loss, entry in document.get("losses", {}).items():
        yield f"{path}, {loss} loss", entry["splits"]
    if "splits" in document:
        yield str(path), document["splits"]


def recount(path: Path, zoos: Path) -> str:
    """Change one document; says what has become of its counts."""
    document, said = read_json(path), []
    for place, splits in splits_of(document, path):
        for split, summary in splits.items():
            zoo = Zoo.open(zoos / summary["tasks"][0]["family"])
            splits[split] = recounted(summary, zoo, f"{place}, {split}")
            counts = summary["counted_tasks"], splits[split]["counted_tasks"]
            said.append(f"{split} {counts[0]} -> {counts[1]} of {len(summary['tasks'])}")
    document["recounted"] = {"machine": describe_machine(), "versions": library_versions()}
    write_json(path, document)
    return f"{path}: tasks with a gap: {', '.join(said)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+", type=Path)
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos, by family")
    arguments = parser.parse_args()
    for path in arguments.documents:
        print(recount(path, arguments.zoo_root), flush=True)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
