"""Measure an ensemble: means of its weights and of its actions beside its members, and whether disagreement warns.

All run on the same rollouts and reset seeds. Gap closed is of the tasks that the evaluation protocol counts: their
expert is clearly better than the base policy. Shortfall is 1 - gap closed, the mean over members; its rank correlation
with the disagreement, over tasks at each length and over tasks and lengths together, says whether disagreement tells
which generated policies are bad. Prints one JSON document and writes it to ``--out``.

    metamap mapper train runs/zoo/cheetah-actuators --members 5 --hypernetwork modulation --out runs/ensemble
    python scripts/measure_ensemble.py runs/ensemble --zoo runs/zoo/cheetah-actuators --out ensemble.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr, trim_mean

from metamap_agents.evaluation import evaluate_policies, random_returns
from metamap_agents.machine import describe_machine
from metamap_agents.policy_spec import PolicySpec
from metamap_agents.storage import claim_output, library_versions, write_json
from metamap_agents.torch_state import torch_threads
from metamap_agents.zoo import Zoo
from metamap_rl.ensemble import COMBINATIONS, Ensemble
from metamap_rl.probe import collect, probe_from_json
from metamap_rl.scores import Evaluation, References

_PROBE_SEED = 3_000_000  # that of the evaluation protocol


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float | None:
    """Spearman's; None where one of them does not vary, or there is nothing."""
    varied = len(first) > 0 and min(np.ptp(first), np.ptp(second)) > 0
    return float(spearmanr(first, second).statistic) if varied else None


def middle(closed: NDArray[np.float64]) -> float | None:
    """Interquartile mean over tasks; None without tasks."""
    return float(trim_mean(closed, 0.25)) if len(closed) else None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns and disagreement at every length."""
    zoo, ensemble = Zoo.open(arguments.zoo), Ensemble.load(arguments.ensemble)
    experts = zoo.experts(arguments.split)
    tasks, base = [expert.task for expert in experts], ensemble.base
    longest = max(arguments.lengths)
    found = collect(probe_from_json(ensemble.probe), tasks, base, steps=longest, seed=_PROBE_SEED)
    features = torch.from_numpy(found.features()[:, 0])

    def returns(spec: PolicySpec, phis: NDArray[np.float32]) -> NDArray[np.float64]:
        return evaluate_policies(tasks, spec, phis, base.normalizer, episodes=arguments.episodes).returns

    references = Evaluation.of(
        tuple(tasks),
        References(
            random=random_returns(tasks, episodes=arguments.episodes),
            base=returns(base.spec, base.phi),
            expert=returns(base.spec, np.stack([expert.phi for expert in experts])),
        ),
    )

    def closed_by(spec: PolicySpec, phis: torch.Tensor) -> NDArray[np.float64]:
        closed: NDArray[np.float64] = references.gap_closed(returns(spec, phis.numpy()).mean(axis=1)[None])[0]
        return closed

    rows = []
    for length in arguments.lengths:
        phis = ensemble.phis(features[:, :length])
        members = [closed_by(base.spec, phis[:, member]) for member in range(len(ensemble))]
        disagreement = ensemble.disagreement(phis, torch.from_numpy(found.observations[:, 0, :length])).numpy()
        disagreement = disagreement[references.counted]
        row: dict[str, Any] = {"steps": length, "members": [middle(closed) for closed in members]}
        for name in COMBINATIONS.names():
            spec, combined = COMBINATIONS.get(name)(base.spec, phis)
            closed = closed_by(spec, combined)
            row[name] = {"iqm": middle(closed), "least": min(closed.tolist(), default=None), "tasks": closed.tolist()}
        shortfall = 1 - np.mean(members, axis=0)
        row["disagreement"] = disagreement.tolist()
        row["shortfall"] = shortfall.tolist()
        row["rank_correlation"] = rank_correlation(disagreement, shortfall)
        rows.append(row)
        print(json.dumps({key: row[key] for key in ("steps", "members", "rank_correlation")}), file=sys.stderr)
    return {
        "family": ensemble.family,
        "split": arguments.split,
        "members": len(ensemble),
        "tasks": len(tasks),
        "counted_tasks": int(references.counted.sum()),
        "lengths": rows,
        "rank_correlation": rank_correlation(
            np.concatenate([row["disagreement"] for row in rows]), np.concatenate([row["shortfall"] for row in rows])
        ),
        "settings": {"episodes": arguments.episodes},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble", type=Path, help="folder of the ensemble")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 5, 20, 50])
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
