"""How long the report of a large benchmark takes, and how large it is: made-up cells, real pages.

python scripts/bench_report.py --cells 1000 --out docs/results/report.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_rl.bench.report import write_report
from metamap_rl.bench.result import CellResult, find_results, plain, write_cell
from metamap_rl.bench.summary import summarise

LEARNERS = ("replay", "joint", "finetune", "reservoir", "agem", "ewc", "l2", "packnet", "ppo", "sac")
FAMILIES = ("reacher-goal", "cartpole-swingup", "cheetah-velocity")
STREAMS, ORDERS = 2, 2
TASKS, HELD_OUT, LENGTHS = 20, 12, (5, 10, 25, 50, 100, 200)


@cache
def _versions() -> dict[str, str]:
    return library_versions()


def made_up(
    stream: str, learner: str, order: int, seed: int, tasks: int = TASKS, held_out: int = HELD_OUT
) -> CellResult:
    """A cell whose scores rise when a task is learnt and then fade, at a rate that depends on the learner."""
    generator = np.random.default_rng([seed, order, len(stream), sum(map(ord, learner))])
    fade = (LEARNERS.index(learner) if learner in LEARNERS else 3) / 40
    stages, places = np.indices((tasks + 1, tasks))
    since = stages - places - 1
    R = np.where(since >= 0, 0.95 - fade * since, 0.3) + 0.05 * generator.standard_normal((tasks + 1, tasks))
    H = 0.3 + 0.5 * np.linspace(0, 1, tasks + 1)[:, None] + 0.05 * generator.standard_normal((tasks + 1, held_out))
    H = H - fade
    families = [FAMILIES[index * len(FAMILIES) // tasks] for index in range(tasks)]
    rising = 0.2 + 0.6 * np.linspace(0, 1, len(LENGTHS))
    noise = generator.standard_normal((tasks, len(LENGTHS)))
    return CellResult(
        stream=stream,
        learner=learner,
        order=order,
        seed=seed,
        config={"name": stream, "learner": {"name": learner}, "stream": {"kind": "families", "tasks": tasks}},
        versions=dict(_versions()),
        environments=dict.fromkeys(FAMILIES, "MetaMap/MadeUp-v0"),
        machine={"cpu": "made up", "cores": 2},
        tasks=[f"task-{order}-{seed}-{index}" for index in range(tasks)],
        families=families,
        held_out=[FAMILIES[index % len(FAMILIES)] for index in range(held_out)],
        R=plain(R),
        H=plain(H),
        map_steps=50,
        lengths=list(LENGTHS),
        by_length=plain(rising[:, None] + 0.05 * generator.standard_normal((len(LENGTHS), held_out))),
        curve_x=[float(length) for length in LENGTHS],
        curve_unit="steps of D",
        curves=plain(rising + 0.05 * noise),
        baselines=plain(np.full((tasks, len(LENGTHS)), 0.3)),
        gap_closed={"stream": [0.5], "held-out": [0.4]},
        memory_bytes=[int(1e5 * (stage + 1) * (1 + 10 * fade)) for stage in range(tasks)],
        environment_steps=[20_000] * tasks,
        decisions={"trained": tasks},
        update_seconds=(1 + 10 * fade + 0.1 * generator.random(tasks)).tolist(),
        map_seconds=[0.002] * tasks,
        seconds=60.0,
    )


def made_up_cells(folder: Path, count: int) -> int:
    """Write at least ``count`` cells; returns how many."""
    seeds = -(-count // (len(LEARNERS) * STREAMS * ORDERS))
    written = 0
    for seed in range(seeds):
        for order in range(ORDERS):
            for stream in [f"stream-{'ab'[index]}" for index in range(STREAMS)]:
                for learner in LEARNERS:
                    cell = made_up(stream, learner, order, seed)
                    write_cell(folder / "cells" / stream / f"{learner}-order{order}-seed{seed}", cell)
                    written += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="where the page goes; by default it is thrown away")
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    with tempfile.TemporaryDirectory() as folder:
        cells = made_up_cells(Path(folder), arguments.cells)
        page = arguments.keep or Path(folder, "report.html")
        started, busy = time.perf_counter(), time.process_time()
        found = find_results([Path(folder)])
        read = time.perf_counter()
        size = write_report(summarise(found), page, title=f"{cells} made-up cells", command="scripts/bench_report.py")
        ended = time.perf_counter()
        result = {
            "cells": cells,
            "read_seconds": round(read - started, 2),
            "page_seconds": round(ended - read, 2),
            "seconds": round(ended - started, 2),
            "cpu_seconds": round(time.process_time() - busy, 2),
            "bytes": size,
            "machine": describe_machine(),
            "versions": library_versions(),
        }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
