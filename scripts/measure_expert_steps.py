"""How many environment steps PPO needs to an expert's level: from scratch, from phi_0, and from the generated phi_hat.

Takes the last quarter of the stages of finished runs of `metamap stream run` (their phi_hat is the one generated when
the task had just arrived) and trains on each task three times with on-line evaluation, until the expert-normalised
score reaches 0.95 or the steps run out. The expert is the cache's. A start that is at 0.95 already needs 0 steps.
"From scratch" is the base recipe (the one that works from random weights) with a new actor and critic; the other two
are the expert recipe. All see observations through the family's normaliser.

    python scripts/measure_expert_steps.py runs/stream/replay-order*-seed* --out docs/results/expert-steps.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.initial import random_actor
from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_rl.stream.run import open_run, read_base
from metamap_rl.stream.scoreboard import Reference
from metamap_rl.stream.store import ArtifactStore

LEVEL = 0.95
STARTS = ("scratch", "phi-0", "phi-hat")
_EPISODES = 10


def steps_to_level(
    task: Task,
    base: BasePolicy,
    recipe: Recipe,
    start: NDArray[np.float32],
    reference: Reference,
    seed: int,
) -> dict[str, Any]:
    """Steps until the score reaches `LEVEL`, None if the recipe's steps did not do, and the best score on the way."""
    found: dict[str, Any] = {"steps": None, "best": -np.inf, "first": None}

    def watch(steps: int, phi: NDArray[np.float32]) -> bool:
        episodes = evaluate_policies(
            [task], base.policies(phi), episodes=_EPISODES, seed=EVALUATION_SEED, num_threads=1
        )
        score = reference.score(float(episodes.returns.mean()))
        if score is None:
            raise MetaMapError(f"{task.id}: its expert is no better than random actions, so there is no score to reach")
        found["best"] = max(found["best"], score)
        if found["first"] is None:
            found["first"] = score
        if score >= LEVEL:
            found["steps"] = steps
        return score < LEVEL

    train_expert(task, base, recipe, seed=seed, start=start, on_policy=watch)
    return found


def measure_task(run_directory: str, stage: int, scratch_steps: int) -> dict[str, Any]:
    """The three starts on the task of one stage of a run."""
    run = open_run(run_directory)
    row = run.record.stages()[stage - 1]
    store = ArtifactStore(Path(run_directory) / "artifacts")
    phi_hat = store.get(row.phi_hat)[0]["phi"]
    task, base = Task.from_json(row.task), read_base(run, row.embodiment)
    reference = Reference(**run.manifest["references"][task.id])
    run.record.close()
    fresh = replace(base, critic={})
    expert = load_recipe(task.family, "expert", **run.config.experts.overrides)
    scratch = load_recipe(task.family, "base", **({"n_timesteps": scratch_steps} if scratch_steps else {}))
    recipes = {"scratch": scratch, "phi-0": expert, "phi-hat": expert}
    starts = {"scratch": random_actor(base.spec, stage), "phi-0": base.phi, "phi-hat": phi_hat}
    result: dict[str, Any] = {"run": Path(run_directory).name, "stage": stage, "family": task.family, "task": task.id}
    for name in STARTS:
        found = steps_to_level(
            task, fresh if name == "scratch" else base, recipes[name], starts[name], reference, seed=stage
        )
        result[name] = {**found, "budget": recipes[name].n_timesteps}
    return result


def counted(entry: dict[str, Any], start: str) -> int:
    """Steps that a start needed, its whole budget where it did not get there."""
    steps = entry[start]["steps"]
    return int(entry[start]["budget"] if steps is None else steps)


def summarise(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over tasks; a start that did not reach the level counts with its budget, so its total is a lower bound.

    So are the ratios where the other start did not, and they are None where phi_hat did not: they could be anything.
    """
    totals = {name: sum(counted(entry, name) for entry in entries) for name in STARTS}
    reached = {name: sum(entry[name]["steps"] is not None for entry in entries) for name in STARTS}
    known = reached["phi-hat"] == len(entries)
    return {
        "tasks": len(entries),
        "steps": totals,
        "mean_steps": {name: total / len(entries) for name, total in totals.items()},
        "reached": reached,
        "at_once": sum(entry["phi-hat"]["steps"] == 0 for entry in entries),
        "scratch_over_phi_hat": totals["scratch"] / max(1, totals["phi-hat"]) if known else None,
        "phi_0_over_phi_hat": totals["phi-0"] / max(1, totals["phi-hat"]) if known else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs")
    parser.add_argument("--share", type=float, default=0.25, help="share of the stages, the last ones")
    parser.add_argument("--scratch-steps", type=int, default=0, help="budget from scratch; 0 is the base recipe's")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    jobs = []
    for directory in arguments.runs:
        run = open_run(directory)
        total = run.total
        run.record.close()
        jobs += [(str(directory), stage) for stage in range(total - round(arguments.share * total) + 1, total + 1)]
    entries: list[dict[str, Any]] = [{}] * len(jobs)
    with make_executor("local", arguments.workers, None) as executor:
        for index, entry in executor.run(measure_task, [(*job, arguments.scratch_steps) for job in jobs]):
            entries[index] = entry
            steps = {name: entry[name]["steps"] for name in STARTS}
            print(f"{entry['run']} stage {entry['stage']} {entry['family']}: {steps}", file=sys.stderr, flush=True)
    families = sorted({entry["family"] for entry in entries})
    result = {
        "level": LEVEL,
        "share": arguments.share,
        "all": summarise(entries),
        "families": {name: summarise([entry for entry in entries if entry["family"] == name]) for name in families},
        "tasks": entries,
        "horizon": {name: get_family(name).horizon for name in families},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2, allow_nan=False))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
