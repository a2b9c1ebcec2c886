"""How well the shift detector tells, from the probe's rollouts alone, whether a task changed between two arrivals.

For each zoo: rollouts of training-split tasks, twice with different seeds. A false alarm is a shift between two
collections of one task; a hit is a shift between two tasks. Hits are also given by how far apart the tasks are, as the
distance of their coordinates, each scaled to its range in the sample. Prints one JSON document.

    python scripts/measure_shift.py zoo/cheetah-velocity zoo/reacher-goal
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.machine import describe_machine
from metamap_agents.storage import library_versions
from metamap_agents.zoo import Zoo
from metamap_rl.pairs import task_coordinates
from metamap_rl.probe import BasePolicyProbe, Transitions, collect
from metamap_rl.stream.shift import THRESHOLD, ShiftDetector

_SEED = 7_000_000


def arrays(rollouts: Transitions, task: int) -> tuple[NDArray[Any], ...]:
    """Observations, actions, rewards and next observations of one task."""
    fields = (rollouts.observations, rollouts.actions, rollouts.rewards, rollouts.next_observations)
    return tuple(field[task] for field in fields)


def statistics(zoo: Zoo, count: int, steps: int, repeats: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Statistic [T, T] of rollouts of task j against the model of task i, and distances [T, T] of their coordinates."""
    tasks = zoo.family.sample("train", count, np.random.default_rng(_SEED))
    first, second = (
        collect(BasePolicyProbe(), tasks, zoo.base, steps=steps, repeats=repeats, seed=_SEED + index)
        for index in (0, 1)
    )
    found = np.empty((count, count))
    for i in range(count):
        detector = ShiftDetector()
        detector.reset(*arrays(first, i))
        found[i] = [detector.is_shift(*arrays(second, j)).statistic for j in range(count)]
    points = task_coordinates(tasks)
    scaled = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    return found, np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)


def measure(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one zoo."""
    zoo = Zoo.open(path)
    found, distance = statistics(zoo, arguments.tasks, arguments.steps, arguments.repeats)
    same = np.eye(len(found), dtype=bool)
    edges = np.quantile(distance[~same], [0.0, 0.25, 0.5, 0.75, 1.0])
    quarters = [(~same) & (distance >= low) & (distance <= high) for low, high in itertools.pairwise(edges)]
    return {
        "family": zoo.family.name,
        "tasks": len(found),
        "false_alarms": float((found[same] > arguments.threshold).mean()),
        "same_task_statistic": {"median": float(np.median(found[same])), "largest": float(found[same].max())},
        "hits": float((found[~same] > arguments.threshold).mean()),
        "hits_by_distance": [float((found[part] > arguments.threshold).mean()) for part in quarters],
        "distance_edges": edges.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoos", nargs="+", type=Path, help="zoos with a base policy")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    arguments = parser.parse_args()
    result = {
        "threshold": arguments.threshold,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "families": [measure(path, arguments) for path in arguments.zoos],
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
