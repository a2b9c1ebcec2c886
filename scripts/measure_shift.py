"""How well the shift detector tells, from the probe's rollouts alone, whether a task changed between two arrivals.

For each zoo: rollouts of tasks, collected with several seeds. A false alarm is a shift between two collections of one
task; a hit is a shift between collections of two tasks. Each task is compared with others at even steps of rank, from
the nearest to the farthest; hits are given by quarters of the distance too (between the tasks' coordinates, each scaled
to its range in the sample). Prints one JSON document.

    python scripts/measure_shift.py zoo/cheetah-velocity zoo/reacher-goal
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs.task import Task
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.stream.shift import THRESHOLD, ShiftDetector
from metamap_rl.training.from_experts import task_coordinates

_SEED = 7_000_000


def arrays(rollouts: Rollouts, task: int) -> tuple[NDArray[Any], ...]:
    """Observations, actions, rewards and next observations of one task."""
    fields = (rollouts.observations, rollouts.actions, rollouts.rewards, rollouts.next_observations)
    return tuple(field[task] for field in fields)


def collections(zoo: Zoo, tasks: Sequence[Task], arguments: argparse.Namespace) -> list[Rollouts]:
    """Rollouts of the tasks, once for each seed."""
    return [
        collect(
            BasePolicyProbe(), tasks, zoo.base, steps=arguments.steps, repeats=arguments.repeats, seed=_SEED + index
        )
        for index in range(arguments.seeds)
    ]


def statistic(last: Rollouts, i: int, new: Rollouts, j: int) -> float:
    """The detector's statistic for task j after task i."""
    detector = ShiftDetector()
    detector.reset(*arrays(last, i))
    return detector.is_shift(*arrays(new, j)).statistic


def distances(tasks: Sequence[Task]) -> NDArray[np.float64]:
    """Distances [T, T] of the tasks' coordinates, each scaled to its range."""
    points = task_coordinates(tasks)
    scaled = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    found: NDArray[np.float64] = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    return found


def others(row: NDArray[np.float64], task: int, count: int) -> NDArray[np.intp]:
    """So many other tasks at even steps from the nearest to the farthest; ``row`` are distances from ``task``."""
    ranked = np.argsort(row, kind="stable")
    ranked = ranked[ranked != task]
    chosen: NDArray[np.intp] = ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)]
    return chosen


def measure(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one zoo."""
    zoo = Zoo.open(path)
    tasks = zoo.family.sample(arguments.split, arguments.tasks, np.random.default_rng(_SEED))
    seen, apart = collections(zoo, tasks, arguments), distances(tasks)
    orders = list(itertools.permutations(seen, 2))
    same = np.array([statistic(last, i, new, i) for i in range(len(tasks)) for last, new in orders])
    pairs = [(i, int(j)) for i in range(len(tasks)) for j in others(apart[i], i, arguments.others)]
    turns = itertools.cycle(orders)
    different = np.array([statistic(last, i, new, j) for (i, j), (last, new) in zip(pairs, turns, strict=False)])
    distance = np.array([apart[pair] for pair in pairs])
    nearest = np.arange(len(pairs)) % min(arguments.others, len(tasks) - 1) == 0
    edges = np.quantile(distance, [0.0, 0.25, 0.5, 0.75, 1.0])
    quarters = [(distance >= low) & (distance <= high) for low, high in itertools.pairwise(edges)]
    return {
        "family": zoo.family.name,
        "tasks": len(tasks),
        "pairs_of_one_task": len(same),
        "pairs_of_two_tasks": len(different),
        "false_alarms": float((same > arguments.threshold).mean()),
        "same_task_statistic": {
            str(share): float(np.quantile(same, share)) for share in (0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
        },
        "hits": float((different > arguments.threshold).mean()),
        "hits_by_distance": [float((different[part] > arguments.threshold).mean()) for part in quarters],
        "distance_edges": edges.tolist(),
        "nearest": {
            "hits": float((different[nearest] > arguments.threshold).mean()),
            "median_distance": float(np.median(distance[nearest])),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoos", nargs="+", type=Path, help="zoos with a base policy")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument(
        "--split", default="train", help="split that the tasks are of; the threshold was chosen on train"
    )
    parser.add_argument("--seeds", type=int, default=4, help="collections of each task, at least 2")
    parser.add_argument("--others", type=int, default=20, help="other tasks that each task is compared with")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    arguments = parser.parse_args()
    result = {
        "threshold": arguments.threshold,
        "split": arguments.split,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "families": [measure(path, arguments) for path in arguments.zoos],
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
