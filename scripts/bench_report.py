"""How long the report of a large benchmark takes, and how large it is: made-up cells on disk, the real page.

python scripts/bench_report.py --cells 1000 --repeats 3 --out docs/results/report.json
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from importlib import import_module
from itertools import islice, product
from pathlib import Path

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.report import write_report
from metamap_rl.bench.result import CELL, cell_document, find_results
from metamap_rl.bench.summary import summarise

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # its made-up cells

TASKS, HELD_OUT = 20, 12
STREAMS, ORDERS = ("one", "two"), 2


def made_up_cells(folder: Path, count: int) -> None:
    """Write cells of ten learners on two streams in two orders, and as many seeds as it takes."""
    making = import_module("helpers.made_up_cells")
    every = product(range(count), range(ORDERS), STREAMS, making.LEARNERS)
    for seed, order, stream, learner in islice(every, count):
        cell = making.made_up(stream, learner, order, seed, tasks=TASKS, held_out=HELD_OUT)
        path = folder / "cells" / stream / f"{learner}-order{order}-seed{seed}" / CELL
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(cell_document(cell)))


def measured(folder: Path) -> dict[str, float]:
    """Seconds of reading, and of the page; processor seconds of both; bytes."""
    started, cpu = time.perf_counter(), time.process_time()
    cells = find_results([folder])
    read = time.perf_counter()
    size = write_report(summarise(cells), folder / "page.html", title="made up", command="")
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "read_seconds": read - started,
        "page_seconds": ended - read,
        "cpu_seconds": time.process_time() - cpu,
        "bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    arguments = parser.parse_args()
    if arguments.cells < 1 or arguments.repeats < 1:
        raise MetaMapError("expected --cells and --repeats of at least 1")
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_up_cells(folder, arguments.cells)
        times = [measured(folder) for _ in range(arguments.repeats)]
        if arguments.profile:
            with cProfile.Profile() as profile:
                measured(folder)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
    result = {
        "cells": arguments.cells,
        "repeats": arguments.repeats,
        **min(times, key=lambda found: found["seconds"]),
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
