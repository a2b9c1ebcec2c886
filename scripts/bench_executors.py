"""Time of a batch of experts on Ray, against processes of this machine.

Both train the same experts of reacher-goal from the same base policy with as many processes, by turns. Starting (the
processes, or Ray and its workers, up to their first finished job) is timed apart from the batch. Every batch must give
the same experts, to the bit. Prints one JSON document; the ratios are Ray's time over the local one.

    python scripts/bench_executors.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.experts.building import build_base, build_experts
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import EXECUTORS, make_executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task

FAMILY = "reacher-goal"
BASE_TIMESTEPS = 20_000  # how good the base policy is makes no difference to the speed


def wait(seconds: float) -> None:
    """A job that every worker has to take part in, if there are as many of them."""
    time.sleep(seconds)


def run_once(name: str, zoo: Zoo, tasks: Sequence[Task], overrides: dict[str, Any], workers: int) -> dict[str, float]:
    """Seconds of one start, one batch, and the end."""
    started = time.perf_counter()
    with make_executor(name, workers) as executor:
        list(executor.run(wait, [(0.5,)] * workers))
        ready = time.perf_counter()
        build_experts(zoo, tasks, overrides=overrides, executor=executor)
        done = time.perf_counter()
    ended = time.perf_counter()
    return {"start": ready - started, "batch": done - ready, "with start and end": ended - started}


def measure(folder: Path, count: int, repeats: int, timesteps: int | None, workers: int) -> dict[str, Any]:
    """All executors by turns, each time into a new zoo."""
    first = Zoo.create(folder / "base", FAMILY, 0)
    build_base(first, overrides={"n_timesteps": BASE_TIMESTEPS})
    overrides = {} if timesteps is None else {"n_timesteps": timesteps}
    tasks = first.tasks("train", count)
    zoos: list[Zoo] = []
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in EXECUTORS}
    for repeat in range(repeats):
        for name in EXECUTORS:
            zoo = Zoo.create(folder / f"{name}-{repeat}", FAMILY, 0)
            zoo.put_base(first.base)
            seconds[name].append(run_once(name, zoo, tasks, overrides, workers))
            zoos.append(zoo)
    return {
        "recipe": load_recipe(FAMILY, "expert", **overrides).model_dump(mode="json"),
        "seconds": {name: {part: summary(runs, part) for part in runs[0]} for name, runs in seconds.items()},
        "ray_over_local": {
            part: median(seconds["ray"], part) / median(seconds["local"], part)
            for part in ("batch", "with start and end")
        },
        "ray_over_local_by_repeat": [
            ray["batch"] / local["batch"] for local, ray in zip(seconds["local"], seconds["ray"], strict=True)
        ],
        "same_experts": all(same(zoos[0], zoo, tasks) for zoo in zoos[1:]),
    }


def median(runs: Sequence[dict[str, float]], part: str) -> float:
    return statistics.median(run[part] for run in runs)


def summary(runs: Sequence[dict[str, float]], part: str) -> dict[str, float]:
    values = [run[part] for run in runs]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def same(one: Zoo, other: Zoo, tasks: Sequence[Task]) -> bool:
    """Whether two zoos hold the same weights and returns, to the bit."""
    pairs = [(one.get(task), other.get(task)) for task in tasks]
    return all(np.array_equal(a.phi, b.phi) and np.array_equal(a.returns, b.returns) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=16, help="in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--timesteps", type=int, help="for each expert, instead of the recipe's")
    parser.add_argument("--workers", type=int, default=default_threads(), help="processes; all cores by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            Path(folder), arguments.experts, arguments.repeats, arguments.timesteps, max(2, arguments.workers)
        )
    document = {
        "family": FAMILY,
        "experts": arguments.experts,
        "repeats": arguments.repeats,
        "workers": max(2, arguments.workers),
        **result,
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":  # workers import this file again
    from _running import run_script

    run_script(main)
