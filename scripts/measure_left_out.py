"""Choose between mappers where all settings train and none is for validation: leave each training setting out in turn.

For every training expert a mapper is trained on the others, survey included, and measured on the one left out, with
the hypernetwork seeing all of z and with a bottleneck. No test setting is touched. Prints a table on standard error and
one JSON document, also to ``--out``.

    python scripts/measure_left_out.py dmc-cheetah-speed --zoo-root runs/zoo --out docs/results/left-out.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_rl.data.survey import Survey
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.config import MapperRecipe, TrainConfig
from metamap_rl.training.from_experts import build_pairs, task_coordinates
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.pipeline import survey_of

_SHAPES = {"all of z": MapperConfig(), "bottleneck": MapperConfig(bottleneck=True)}


def without(survey: Survey, expert: Expert) -> Survey:
    """The survey without the rollouts of an expert's task."""
    own = torch.from_numpy(task_coordinates([expert.task]))
    others = ((survey.coordinates - own).abs() > 1e-5).any(dim=1)
    return replace(survey, features=survey.features[others], coordinates=survey.coordinates[others])


def measure(zoo: Zoo, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns on each setting left out, by shape, of its expert and of the base policy."""
    probe, experts = BasePolicyProbe(), zoo.experts("train")
    survey = survey_of(zoo, probe, count=MapperRecipe().survey_tasks)
    assert survey is not None, "of many tasks"
    found: dict[str, Any] = {"settings": [], "expert": [], "base": [], **{name: [] for name in _SHAPES}}
    for left_out in experts:
        others = [expert for expert in experts if expert is not left_out]
        known = without(survey, left_out)
        pairs, held_out = (build_pairs(zoo, others, probe, repeats=8, seed=seed) for seed in (11, 12))
        data = TrainingData(pairs, zoo.base, zoo.family.name, probe_to_json(probe), validation=held_out, survey=known)
        mappers: dict[str, list[Mapper]] = {
            name: [
                train(
                    data,
                    config=TrainConfig(loss="both", updates=arguments.updates, seed=seed),
                    mapper_config=shape,
                )
                for seed in range(arguments.seeds)
            ]
            for name, shape in _SHAPES.items()
        }
        found["settings"].append(dict(left_out.task.parameters))
        for name, trained in mappers.items():
            evaluation = evaluate_mappers(trained, [left_out], lengths=(arguments.steps,), controls=False)
            found[name].append(evaluation.methods[0].returns[:, 0].tolist())
        found["expert"].append(float(evaluation.expert[0]))
        found["base"].append(float(evaluation.base[0]))
        line = ", ".join(f"{name} {np.mean(found[name][-1]):.0f}" for name in _SHAPES)
        print(f"{left_out.task.describe()}: {line}, expert {found['expert'][-1]:.0f}", file=sys.stderr, flush=True)
    expert = np.array(found["expert"])
    found["of_expert"] = {name: float((np.array(found[name]) / expert[:, None]).mean()) for name in _SHAPES}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family")
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos")
    parser.add_argument("--seeds", type=int, default=4, help="mappers for each setting and shape, each with its own D")
    parser.add_argument("--steps", type=int, default=200, help="of D")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)
    torch.set_num_threads(1)
    result = {
        "family": arguments.family,
        **measure(Zoo.open(arguments.zoo_root / arguments.family), arguments),
        "arguments": {key: value for key, value in vars(arguments).items() if key not in ("zoo_root", "out")},
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    for name, share in result["of_expert"].items():
        print(f"{name}: {share:.3f} of the experts' return", file=sys.stderr)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
