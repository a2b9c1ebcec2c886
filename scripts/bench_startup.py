"""Time of the whole process `metamap adapt`, against that of importing torch and Stable-Baselines3 in a process.

The two alternate, so that what else the machine does meets both. Seconds of the processor (user and system, of all
threads) stand beside those of the clock, which mean little on a busy machine. Prints one JSON document.

    python scripts/bench_startup.py --repeats 10
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions

_IMPORTS = "import torch, stable_baselines3"
_ADAPT = ("adapt", "cheetah-velocity", "--parameters", "target_velocity=2")


def measure(command: list[str]) -> dict[str, float]:
    """Seconds of the clock and of the processor that a process takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"clock": clock, "processor": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Median and least of each kind of seconds."""
    return {
        kind: {"median": statistics.median(run[kind] for run in runs), "min": min(run[kind] for run in runs)}
        for kind in runs[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    commands = {
        "imports": [sys.executable, "-c", _IMPORTS],
        "adapt": [sys.executable, "-m", "metamap_rl.cli", *_ADAPT],
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for command in commands.values():  # whatever is read from the disk once
        measure(command)
    for _ in range(arguments.repeats):
        for name, command in commands.items():
            runs[name].append(measure(command))
    seconds = {name: summary(found) for name, found in runs.items()}
    result = {
        "commands": {"imports": f"python -c '{_IMPORTS}'", "adapt": f"metamap {' '.join(_ADAPT)}"},
        "repeats": arguments.repeats,
        "seconds": seconds,
        "ratio": {
            kind: {of: seconds["adapt"][kind][of] / seconds["imports"][kind][of] for of in ("median", "min")}
            for kind in ("clock", "processor")
        },
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
