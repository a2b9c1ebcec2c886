"""Mean return on unseen settings of the families from dm_control's suite, as a share of the experts' return.

These are the numbers that stand beside HyPoGen's table (ICLR 2025): policies for the 80 % of a grid of settings
that nothing was trained on, against experts that were trained on each of them. Theirs are told the setting; ours reads
200 steps of D, and the privileged mapper is given the setting too. Prints a table on standard error and one JSON
document, also to ``--out``.

    python scripts/measure_dmc.py dmc-cheetah-speed dmc-walker-speed --seeds 5 --out docs/results/dmc.json
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

from measure_adaptation import train_seeds
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.registry import list_families
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.evaluation.scores import Evaluation
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.probing.probes import PROBES
from metamap_rl.training.config import MapperRecipe, TrainConfig
from metamap_rl.training.pipeline import PROBE_STEPS

_SPLIT = "test-in"  # of a grid: all settings that nothing was trained on
_PUBLISHED = {"HyperZero": 0.62, "HyPoGen": 0.713}
"""Means over the columns of HyPoGen's table, told the setting, checkpoints chosen on the settings of the table."""


def share_of_expert(evaluation: Evaluation, returns: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean of J / J_expert over seeds and settings, with its interval, and the mean return.

    Settings whose expert is not better than random actions are not counted: a share of its return would mean nothing.

    Args:
        evaluation: gives J_expert of T tasks.
        returns: J, [seeds, T].
    """
    entry: dict[str, float | None] = {"return": float(returns.mean())}
    counted = evaluation.ranked
    if not counted.any():
        return entry | dict.fromkeys(("of_expert", "low", "high", "normalised"))
    shares = returns[:, counted] / evaluation.expert[counted]
    whole = bootstrap_interval(shares, np.random.default_rng(0), trimmed=0.0)
    entry |= {"of_expert": whole.estimate, "low": whole.low, "high": whole.high}
    return entry | {"normalised": float(evaluation.normalised(returns).mean())}


def universal_returns(zoo: Zoo, evaluation: Evaluation) -> NDArray[np.float64]:
    """Returns [1, T] of the universal policy with each test task's parameters as inputs."""
    phis = np.stack([zoo.universal.phi_for(task) for task in evaluation.tasks])
    episodes = evaluate_policies(evaluation.tasks, zoo.base.policies(phis), episodes=evaluation.episodes)
    means: NDArray[np.float64] = episodes.returns.mean(axis=1)
    return means[None]


def measure(family: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All methods on the unseen settings of one family."""
    zoo = Zoo.open(arguments.zoo_root / family)
    config = TrainConfig(loss=arguments.loss, updates=arguments.updates)
    shape = MapperConfig(bottleneck=arguments.bottleneck)
    probe = PROBES.get(arguments.probe)()
    trained = train_seeds(zoo, probe, config, shape, arguments.seeds, arguments.survey_tasks)
    evaluation = evaluate_mappers(
        trained["mappers"],
        zoo.experts(_SPLIT),
        lengths=(arguments.steps,),
        episodes=arguments.episodes,
        training_experts=zoo.experts("train"),
        oracles=trained["oracles"],
    )
    returns = {scores.method: scores.returns for scores in evaluation.methods}
    returns |= {"base": evaluation.base[None], "random": evaluation.random[None], "expert": evaluation.expert[None]}
    if zoo.has_universal:
        returns["parent, told"] = universal_returns(zoo, evaluation)
    return {
        "training_settings": len(zoo.experts("train")),
        "test_settings": [dict(task.parameters) for task in evaluation.tasks],
        "counted_settings": int(evaluation.ranked.sum()),
        "methods": {name: share_of_expert(evaluation, values) for name, values in returns.items()},
        "returns": {name: values.tolist() for name, values in returns.items()},
        "train_seconds": trained["seconds"],
    }


def print_table(families: dict[str, Any]) -> None:
    """Share of the expert's return for people, on standard error."""
    for family, result in families.items():
        tested = f"{len(result['test_settings'])} tested, {result['counted_settings']} counted"
        counts = f"{result['training_settings']} settings trained on, {tested}"
        print(f"{family}: {counts}", file=sys.stderr)
        for name, entry in result["methods"].items():
            share = entry["of_expert"]
            interval = "none" if share is None else f"{share:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"
            print(f"  {name:<16} return {entry['return']:5.0f}  of expert {interval}", file=sys.stderr)
    print(f"published, mean over the table's columns: {_PUBLISHED}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in list_families() if name.startswith("dmc-")]
    parser.add_argument("families", nargs="+", choices=names, metavar="FAMILY")
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos")
    parser.add_argument("--seeds", type=int, default=5, help="mappers of each family")
    parser.add_argument("--steps", type=int, default=PROBE_STEPS, help="of D")
    parser.add_argument("--loss", default="both")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--probe", default="base-policy")
    parser.add_argument("--survey-tasks", type=int, default=MapperRecipe().survey_tasks, help="0: no survey")
    parser.add_argument("--bottleneck", action="store_true", help="the hypernetwork sees read coordinates only")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)  # what cannot be written fails now, not after an hour
    torch.set_num_threads(arguments.threads)
    families = {family: measure(family, arguments) for family in arguments.families}
    result = {
        "families": families,
        "published": _PUBLISHED,
        "settings": {key: value for key, value in vars(arguments).items() if key not in ("zoo_root", "out")},
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print_table(families)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
