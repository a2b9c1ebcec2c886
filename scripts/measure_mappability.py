"""Measure whether a zoo's experts are a function of the task: explained variance, barriers, error when told the task.

Looks at training and validation experts only. Prints one JSON document and writes it to ``--out``.

    python scripts/measure_mappability.py runs/zoo/cheetah-actuators --hypernetwork modulation --out mappability.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_rl.evaluation.predictability import explained_variance, interpolation_barrier, told_error
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import task_coordinates


def quartiles(values: Any) -> dict[str, float]:
    """Quartiles of a distribution."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"quarter": float(low), "median": float(median), "three_quarters": float(high)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All three measures."""
    zoo = Zoo.open(arguments.zoo)
    training, held_out = zoo.experts("train"), zoo.experts("validation")
    coordinates = task_coordinates([expert.task for expert in training])
    change = np.stack([expert.phi for expert in training])
    barrier = interpolation_barrier(training, zoo.base, episodes=arguments.episodes)
    config = TrainConfig(loss=arguments.loss, updates=arguments.updates, batch_tasks=min(16, len(training)))
    shape = MapperConfig(hypernetwork=arguments.hypernetwork)
    told = [
        told_error(training, held_out, zoo.base, config=replace(config, seed=seed), mapper_config=shape)
        for seed in range(arguments.seeds)
    ]
    return {
        "family": zoo.family.name,
        "tasks": {"training": len(training), "held_out": len(held_out)},
        "explained_variance": {
            name: asdict(explained_variance(coordinates, change, degree))
            for name, degree in (("linear", 1), ("quadratic", 2))
        },
        "interpolation": {
            "pairs": len(barrier.pairs),
            "barrier": quartiles(barrier.barrier),
            "crossed_loss": quartiles(barrier.crossed_loss),
            "returns": {name: getattr(barrier, name).tolist() for name in ("random", "own", "crossed", "middle")},
        },
        "told_error": {name: [entry[name] for entry in told] for name in ("training", "held_out")},
        "settings": {key: value for key, value in vars(arguments).items() if key not in ("zoo", "out")},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--loss", default=TrainConfig().loss, help="of the mapper that is told the parameters")
    parser.add_argument("--hypernetwork", default=MapperConfig().hypernetwork, help="its hypernetwork")
    parser.add_argument("--updates", type=int, default=TrainConfig().updates, help="its updates")
    parser.add_argument("--seeds", type=int, default=2, help="such mappers")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    with torch_threads(1):
        result = measure(arguments)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
