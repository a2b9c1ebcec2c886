"""Time from 200 transitions to the weights of a policy, for each bundled mapper, on one thread of torch.

Prints one JSON document.

    python scripts/bench_mapping.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs.registry import get_family
from metamap_rl.adaptation.bundled import bundled_families, load_mapper
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json


def measure(family: str, steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of `Mapper.generate`, checks included."""
    mapper = load_mapper(family)
    task = get_family(family).sample("test-in", 1, 0)[0]
    rollout = collect(probe_from_json(mapper.probe), [task], mapper.base, steps=steps, seed=0).rollout(0)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        mapper.generate(rollout)
        times.append(1000.0 * (time.perf_counter() - started))
    times.sort()
    return {
        "family": family,
        "weights": mapper.base.spec.size,
        "milliseconds": {
            "median": statistics.median(times),
            "min": times[0],
            "95th percentile": times[int(0.95 * (len(times) - 1))],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="transitions of D")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "families": [measure(family, arguments.steps, arguments.repeats) for family in bundled_families()],
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
