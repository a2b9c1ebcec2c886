"""How well does a policy that sees nothing do? One open-loop sine for the whole family, beside base policy and experts.

Action j at step t is sin(2 pi f t dt + j psi), the same in every task; frequency f and phase lag psi are chosen on
training tasks. It is run on the test-in tasks of the family's stored document, on the same reset seeds; the returns of
base policy and experts are those of that document. Experts that are no better than this are weak, so that "no gap
between base policy and expert" does not say that there is nothing to adapt.

    python scripts/measure_open_loop.py swimmer-viscosity --out docs/results/learning/swimmer-viscosity-open-loop.json
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.evaluation import run_episodes
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_rl.cli.console import print_json

FREQUENCIES = tuple(np.round(np.arange(0.2, 4.01, 0.2), 2).tolist())  # Hz
LAGS = tuple(np.linspace(-np.pi, np.pi, 16, endpoint=False).tolist())  # rad, from one actuator to the next
_TASK_SEED = 8_000_000  # of the training tasks on which f and psi are chosen
_EPISODE_SEED = 9_000_000


def returns(
    family: Family, tasks: Sequence[Task], frequency: float, lag: float, *, episodes: int, seed: int
) -> NDArray[np.float64]:
    """Returns [T, E] of one sine on some tasks."""
    phases = lag * np.arange(family.action_size)
    low, high = (np.asarray(bound, dtype=np.float64) for bound in family.action_range)
    step = 0

    def act(seen: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal step
        wave = np.sin(2.0 * np.pi * frequency * family.step_seconds * step + phases)
        step += 1
        return np.broadcast_to((low + high) / 2.0 + (high - low) / 2.0 * wave, (*seen.shape[:2], family.action_size))

    return run_episodes(tasks, act, episodes, seed).returns


def measure(family: Family, document: dict[str, Any], *, training_tasks: int, episodes: int) -> dict[str, Any]:
    """Choose the sine on training tasks and run it once on the document's test-in tasks."""
    (entry,) = [loss["splits"]["test-in"] for loss in document["losses"].values()][:1]
    tasks = [Task.from_json(task) for task in entry["tasks"]]
    training = family.sample("train", training_tasks, _TASK_SEED)
    scores = {
        (frequency, lag): float(returns(family, training, frequency, lag, episodes=2, seed=_EPISODE_SEED).mean())
        for frequency, lag in itertools.product(FREQUENCIES, LAGS)
    }
    frequency, lag = max(scores, key=lambda pair: scores[pair])
    found = returns(family, tasks, frequency, lag, episodes=episodes, seed=EVALUATION_SEED)
    return {
        "family": family.name,
        "frequency_hz": frequency,
        "phase_lag_rad": lag,
        "training_return": scores[frequency, lag],
        "tasks": [task.to_json() for task in tasks],
        "open_loop_returns": found.mean(axis=1).tolist(),
        "mean_return": {
            "open loop": float(found.mean()),
            "base policy": float(np.mean(entry["base_returns"])),
            "experts": float(np.mean(entry["expert_returns"])),
            "random actions": float(np.mean(entry["random_returns"])),
        },
        "settings": {"training_tasks": training_tasks, "episodes": episodes, "candidates": len(scores)},
        "machine": describe_machine(),
        "versions": library_versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the stored documents")
    parser.add_argument("--training-tasks", type=int, default=16)
    parser.add_argument("--episodes", type=int, default=10, help="of each test-in task")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    family = get_family(arguments.family)
    document = read_json(arguments.results / f"{family.name}.json")
    if "losses" not in document:
        raise MetaMapError(f"{arguments.results / family.name}.json: expected a document of measure_adaptation.py")
    result = measure(family, document, training_tasks=arguments.training_tasks, episodes=arguments.episodes)
    if arguments.out:
        write_json(arguments.out, result)
    print_json(result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
