"""Whether two benchmarks put learners in the same order: Kendall's tau of a metric over the learners that both have.

python scripts/measure_order.py runs/small runs/standard --out docs/results/order.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from metamap_agents.runtime.storage import claim_output, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import find_results
from metamap_rl.bench.summary import summarise


def by_learner(folder: Path, metric: str) -> dict[str, float]:
    """A metric of each learner, mean over its streams."""
    summary = summarise(find_results([folder]))
    found: dict[str, list[float]] = {}
    for group in summary.groups:
        value = group.metrics.get(metric)
        if value is not None:
            found.setdefault(group.learner, []).append(value.value)
    return {learner: float(np.mean(values)) for learner, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--metric", default="AP_final")
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    one, other = (by_learner(folder, arguments.metric) for folder in arguments.folders)
    shared = [learner for learner in one if learner in other]
    if len(shared) < 2:
        raise MetaMapError(f"expected at least two learners that both have, got {len(shared)}")
    tau = float(kendalltau([one[name] for name in shared], [other[name] for name in shared]).statistic)
    result = {
        "metric": arguments.metric,
        "tau": tau,
        "learners": {name: [one[name], other[name]] for name in shared},
        "folders": [str(folder) for folder in arguments.folders],
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
