"""Measure how much of the gap between base policy and expert a mapper closes on tasks it never saw.

For each loss, mappers are trained from the family's zoo with several seeds, their checkpoints chosen on validation
tasks, and measured once on the test tasks, beside the controls of the protocol: D of another task, mean and nearest
expert, and a privileged mapper, which is given the true parameters ("oracle" in
the document; it is no upper bound). Prints one JSON document and writes it to ``--out``.

    python scripts/measure_adaptation.py cheetah-velocity --out docs/results/cheetah-velocity.json
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

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.registry import list_families
from metamap_rl.cli.inputs import read_numbers, whole_or_float
from metamap_rl.evaluation.evaluate import LENGTHS, evaluate_mappers
from metamap_rl.evaluation.privileged import train_oracle
from metamap_rl.evaluation.score_text import (
    counted_text,
    harm_text,
    interval_text,
    method_text,
    number_text,
    ratio_text,
)
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.documents import probe_identity, probe_to_json
from metamap_rl.probing.probes import Probe
from metamap_rl.training.config import MapperRecipe, TrainConfig
from metamap_rl.training.loop import train
from metamap_rl.training.pipeline import TOUR_STOPS, probe_for, survey_of, training_pairs


def train_seeds(
    zoo: Zoo, probe: Any, config: TrainConfig, mapper: MapperConfig, seeds: int, survey_tasks: int
) -> dict[str, Any]:
    """Mappers and oracles for seeds 0, 1, ..., and the seconds that each mapper took. Oracles need no survey."""
    pairs, held_out = training_pairs(zoo, "train", probe), training_pairs(zoo, "validation", probe)
    survey = survey_of(zoo, probe, count=survey_tasks)
    mappers: list[Mapper] = []
    oracles: list[Mapper] = []
    seconds = []
    for seed in range(seeds):
        settings = replace(config, seed=seed)
        about: dict[str, Any] = {"family": zoo.family.name, "probe": probe_to_json(probe), "config": settings}
        started = time.perf_counter()
        mappers.append(train(pairs, zoo.base, validation=held_out, survey=survey, mapper_config=mapper, **about))
        seconds.append(time.perf_counter() - started)
        oracles.append(train_oracle(pairs, zoo.base, validation=held_out, mapper_config=mapper, **about))
        print(f"{zoo.family.name}: {config.loss}, seed {seed}: {seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    return {"mappers": mappers, "oracles": oracles, "seconds": seconds}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and measure all losses."""
    torch.set_num_threads(arguments.threads)
    zoo = Zoo.open(arguments.zoo_root / arguments.family)
    settings = read_numbers(arguments.probe_settings, "--probe-settings", whole_or_float)
    with probe_for(zoo, {"name": arguments.probe, **settings}, arguments.stops) as probe:
        return measure_with(zoo, probe, arguments)


def measure_with(zoo: Zoo, probe: Probe, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and measure all losses with one probe."""
    shape = MapperConfig(
        encoder=arguments.encoder,
        hypernetwork=arguments.hypernetwork,
        hypernetwork_hidden=arguments.hidden,
        bottleneck=arguments.bottleneck,
    )
    losses = {}
    for loss in arguments.losses:
        trained = train_seeds(
            zoo,
            probe,
            TrainConfig(loss=loss, updates=arguments.updates),
            shape,
            arguments.seeds,
            arguments.survey_tasks,
        )
        splits = {}
        for split in arguments.splits:
            evaluation = evaluate_mappers(
                trained["mappers"],
                zoo.experts(split),
                lengths=LENGTHS,
                episodes=arguments.episodes,
                training_experts=zoo.experts("train"),
                oracles=trained["oracles"],
            )
            splits[split] = evaluation.summary()
        losses[loss] = {"train_seconds": trained["seconds"], "splits": splits}
    return {
        "family": arguments.family,
        "training_tasks": len(zoo.experts("train")),
        "survey_tasks": arguments.survey_tasks,
        "probe": probe_identity(probe_to_json(probe)),
        "losses": losses,
        "settings": {key: value for key, value in vars(arguments).items() if key not in ("zoo_root", "out")},
        "machine": describe_machine(),
        "versions": library_versions(),
    }


def print_table(result: dict[str, Any]) -> None:
    """Gap closed (IQM), ratio of sums, worst decile and harm of every method, for people, on standard error."""
    for loss, entry in result["losses"].items():
        for split, summary in entry["splits"].items():
            print(f"{result['family']}, {loss} loss, {split}: {counted_text(summary)} have a gap", file=sys.stderr)
            for method in summary["methods"]:
                gap = method["gap_closed"]
                cells = interval_text(gap), ratio_text(method["ratio_of_sums"]), number_text(gap, "worst_decile")
                label = f"  {method_text(method['method']):<42} {method['steps']!s:>5}"
                print(label, *(f"{text:<22}" for text in cells), harm_text(method["harm"]), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list_families())
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos")
    parser.add_argument("--seeds", type=int, default=3, help="mappers per loss")
    parser.add_argument("--losses", nargs="+", default=["both", "behaviour", "weights"])
    parser.add_argument("--splits", nargs="+", default=["test-in", "test-out"])
    parser.add_argument("--probe", default="base-policy")
    parser.add_argument("--probe-settings", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--stops", type=int, default=TOUR_STOPS, help="policies of the probe `tour`")
    parser.add_argument("--survey-tasks", type=int, default=MapperRecipe().survey_tasks, help="0: no survey")
    parser.add_argument("--updates", type=int, default=TrainConfig().updates)
    parser.add_argument("--encoder", default=MapperConfig().encoder)
    parser.add_argument("--hypernetwork", default=MapperConfig().hypernetwork)
    parser.add_argument("--hidden", type=int, default=MapperConfig().hypernetwork_hidden)
    parser.add_argument("--bottleneck", action="store_true", help="the hypernetwork sees read coordinates only")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)  # what cannot be written fails now, not after an hour
    result = measure(arguments)
    print_table(result)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
