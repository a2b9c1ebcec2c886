"""Compare experts that come from a universal (parameter-conditioned) policy with experts that PPO trains one by one.

On the first validation tasks of finished zoos: returns of phi_0, of the universal policy on each task, and of the
recipe's PPO from phi_0 and from the universal policy. Prints one JSON document.

    python scripts/measure_experts.py runs/zoo/cheetah-dynamics runs/zoo/cheetah-velocity --tasks 4
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from metamap_agents.experts.building import universal_for
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task


def _train(zoo: Zoo, task: Task, overrides: dict[str, Any]) -> Expert:
    recipe = load_recipe(zoo.family.name, "expert", **overrides)
    return train_expert(task, zoo.base, recipe, seed=zoo.expert_seed(task), start=universal_for(zoo, recipe))


def compare(zoo: Zoo, count: int, workers: int) -> dict[str, Any]:
    """All ways to make the experts of some validation tasks of a zoo."""
    tasks = zoo.tasks("validation", count)
    steps = load_recipe(zoo.family.name, "expert").n_timesteps
    ways: dict[str, dict[str, Any]] = {
        "parent": {"start": "parent"},
        "PPO from phi_0": {"start": "base"},
        "PPO from the parent": {"start": "parent", "parent_timesteps": steps},
    }
    jobs = [(task, overrides) for overrides in ways.values() for task in tasks]
    found: dict[int, Expert] = {}
    with LocalExecutor(min(workers, len(jobs))) as executor:
        for index, expert in executor.run(_train, iter(jobs), share=(zoo,)):
            found[index] = expert
            print(f"{zoo.family.name}: {len(found)}/{len(jobs)}", file=sys.stderr, flush=True)
    rows = {}
    for place, name in enumerate(ways):
        experts = [found[place * len(tasks) + index] for index in range(len(tasks))]
        rows[name] = {
            "returns": [float(expert.returns.mean()) for expert in experts],
            "steps": [expert.record["steps"] for expert in experts],
        }
    base = [float(found[index].base_returns.mean()) for index in range(len(tasks))]
    parent_steps = zoo.universal.record["steps"]
    return {
        "family": zoo.family.name,
        "tasks": [task.to_json() for task in tasks],
        "base_steps": zoo.base.record["steps"],
        "parent_steps": parent_steps,
        "base_returns": base,
        "ways": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoos", nargs="+", type=Path, help="zoos with a universal policy")
    parser.add_argument("--tasks", type=int, default=4, help="validation tasks of each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    zoos = [Zoo.open(path) for path in arguments.zoos]
    for zoo in zoos:
        if not zoo.has_universal:
            raise MetaMapError(f"{zoo.root} has no universal policy; `metamap experts train --start parent` trains it")
    document = {
        "families": [compare(zoo, arguments.tasks, arguments.workers) for zoo in zoos],
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    if arguments.out is not None:
        write_json(arguments.out, document)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":  # workers that train experts import this file again
    from _running import run_script

    run_script(main)
