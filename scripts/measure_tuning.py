"""The purely supervised map beside the same map after a last stage of policy gradient.

Mappers are trained from the family's zoo with several seeds, each is tuned (`metamap_rl.tuning`), its checkpoint chosen
by return on validation tasks, and both are measured on the same test tasks, rollouts and reset seeds. The third arm is
policy gradient alone: a mapper before any training, in units that no expert gave, tuned with ``--alone-rate``. Prints
one JSON document and writes it to ``--out``.

    python scripts/measure_tuning.py reacher-goal --noise 0.05 --out docs/results/learning/tuning-reacher-goal.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metamap_agents.machine import describe_machine
from metamap_agents.storage import claim_output, library_versions, write_json
from metamap_agents.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.family import list_families
from metamap_rl.evaluate import LENGTHS, evaluate_mappers
from metamap_rl.mapper import Mapper
from metamap_rl.score_text import harm_text, interval_text, ratio_text
from metamap_rl.train import TrainConfig
from metamap_rl.tuning import OnIteration, TuningConfig, tune
from metamap_rl.workflow import train_mapper

_ARMS = ("supervised", "tuned", "alone")
_TUNED_BY = ("iterations", "tasks", "batch_tasks", "epochs", "noise", "learning_rate")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, tune, measure both."""
    zoo = Zoo.open(arguments.zoo_root / arguments.family)
    experts = zoo.experts(arguments.split)
    if not experts or arguments.seeds < 1:
        raise MetaMapError(f"{zoo.root}: expected experts of {arguments.split!r} and at least one seed")
    config = TuningConfig(**{name: getattr(arguments, name) for name in _TUNED_BY})
    mappers: dict[str, list[Mapper]] = {name: [] for name in _ARMS}
    seconds: dict[str, list[float]] = {name: [] for name in _ARMS}
    for seed in range(arguments.seeds):
        for name in _ARMS:
            started = time.perf_counter()
            mappers[name].append(_make(name, zoo, seed, mappers["supervised"], config, arguments))
            seconds[name].append(time.perf_counter() - started)
            print(f"{arguments.family}, seed {seed}, {name}: {seconds[name][-1]:.0f} s", file=sys.stderr, flush=True)
    measured = {
        name: evaluate_mappers(found, experts, lengths=LENGTHS, controls=False).summary()
        for name, found in mappers.items()
    }
    return {
        "family": arguments.family,
        "split": arguments.split,
        "measured": measured,
        "seconds": seconds,
        "tuning": {name: [mapper.record["tuning"] for mapper in mappers[name]] for name in _ARMS[1:]},
        "settings": {key: value for key, value in vars(arguments).items() if key not in ("zoo_root", "out")},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def _make(
    arm: str, zoo: Zoo, seed: int, supervised: list[Mapper], config: TuningConfig, arguments: argparse.Namespace
) -> Mapper:
    """The mapper of an arm and seed; the later arms go on from, or are shaped as, the last supervised one."""
    if arm == "supervised":
        return train_mapper(zoo, config=TrainConfig(steps=arguments.updates, seed=seed), calibration=None)
    if arm == "tuned":
        return tune(supervised[-1], replace(config, seed=seed), on_iteration=_tell(arm))
    alone = replace(config, seed=seed, learning_rate=arguments.alone_rate)
    return tune(_untrained(supervised[-1]), alone, on_iteration=_tell(arm))


def _untrained(mapper: Mapper) -> Mapper:
    """The same mapper before its first update, which answers phi_0 to every D; all weights have one unit."""
    unit = mapper.phi_0.square().mean().sqrt()
    return Mapper(
        mapper.config,
        mapper.base,
        family=mapper.family,
        scales=replace(mapper.scales, weight_scale=torch.full_like(mapper.phi_0, float(unit))),
        probe=mapper.probe,
        coordinates=mapper.coordinates,
        seed=int(mapper.record["config"]["seed"]),
    )


def _tell(arm: str) -> OnIteration:
    def tell(done: int, total: int, metrics: dict[str, float]) -> None:
        if "validation" in metrics:
            told = f"  {arm}: round {done} of {total}, return on validation tasks {metrics['validation']:.4g}"
            print(told, file=sys.stderr, flush=True)

    return tell


def print_table(result: dict[str, Any]) -> None:
    """Gap closed (IQM), ratio of sums and harm at each length, for people, on standard error."""
    for name, summary in result["measured"].items():
        for method in summary["methods"]:
            gap, ratio = interval_text(method["gap_closed"]), ratio_text(method["ratio_of_sums"])
            scores = f"{gap:<22} {ratio:<22} {harm_text(method['harm'])}"
            print(f"{name:<12} {method['steps']:>5}  {method['mean_return']:>9.2f}  {scores}", file=sys.stderr)


def main() -> None:
    default = TuningConfig()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list_families())
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", default="test-in", help="tasks to measure on")
    parser.add_argument("--updates", type=int, default=2000, help="of the supervised training")
    for name in _TUNED_BY:
        value = getattr(default, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--alone-rate", type=float, default=3e-4, help="learning rate of policy gradient alone")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    result = measure(arguments)
    print_table(result)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
