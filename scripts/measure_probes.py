"""Measure how much D tells of the task, for each probe: error of the parameters read from the first k steps.

A guide is trained for the seeking probe on a survey of random choices among its plans, and kept in ``--guide``. Then
for each probe a reader is trained on a survey collected with it, and asked for the coordinates of other tasks of the
training split. Prints one JSON document and writes it to ``--out``: for each probe and k the mean squared error in
units of the coordinates' variance (1: nothing is known), and where coordinates are signs the share that is told wrong.

    python scripts/measure_probes.py runs/zoo/cheetah-actuators --guide runs/guides/cheetah-actuators --out probes.json
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metamap_agents.machine import describe_machine
from metamap_agents.storage import claim_output, library_versions, write_json
from metamap_agents.torch_state import torch_threads
from metamap_agents.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_rl.guide import SCORES, Guide, GuideConfig, train_guide
from metamap_rl.pairs import build_survey
from metamap_rl.probe import PROBES, Probe, SeekingProbe, probe_identity, probe_to_json
from metamap_rl.survey import Survey
from metamap_rl.workflow import guide_of, probe_for

_HELD_OUT_SEED = 1  # of the tasks that readers are asked for; 0 is that of the tasks that they are trained on


def sizes_of(zoo: Zoo) -> tuple[int, int]:
    """Sizes of observation and action."""
    return zoo.base.spec.observation_size, zoo.base.spec.action_size


def errors(reader: Guide, survey: Survey, lengths: list[int]) -> dict[str, dict[str, float]]:
    """Errors by k, over all rollouts from their first step; the mean over the reader's members is what is read."""
    found = {}
    for length in lengths:
        read = torch.stack([reader.read(survey.features[:, r, :length]).mean(dim=0) for r in range(2)], dim=1)
        true = survey.coordinates.unsqueeze(1)
        error = ((read - true) / reader.coordinate_std).square().mean()
        entry = {"error": float(error)}
        signs = [
            index for index, name in enumerate(survey.names) if set(true[..., index].flatten().tolist()) == {-1, 1}
        ]
        if signs:
            entry["wrong_signs"] = float((read[..., signs].sign() != true[..., signs]).float().mean())
        found[str(length)] = entry
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and ask a reader for each probe."""
    zoo = Zoo.open(arguments.zoo)
    if arguments.scores and not (arguments.guide / "guide.json").exists():
        about = {"tasks": arguments.tasks, "steps": max(arguments.lengths)}
        guide_of(zoo, config=GuideConfig(updates=arguments.updates), **about).save(arguments.guide)
    with ExitStack() as stack:
        probes = {name: stack.enter_context(probe_for(zoo, {"name": name})) for name in arguments.probes}
        for score in arguments.scores:
            probes[f"seeking, {score}"] = SeekingProbe(guide=str(arguments.guide), score=score)
        results = read_by_probe(zoo, probes, arguments)
    return {
        "family": zoo.family.name,
        "probes": results,
        "settings": {key: value for key, value in vars(arguments).items() if key not in ("zoo", "guide", "out")},
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }


def read_by_probe(zoo: Zoo, probes: dict[str, Probe], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Errors of each probe's readers."""
    config = GuideConfig(members=1, updates=arguments.updates)
    results = []
    for name, probe in probes.items():
        survey, held_out = (
            build_survey(zoo, probe, count=count, steps=max(arguments.lengths), seed=seed)
            for count, seed in ((arguments.tasks, 0), (arguments.held_out, _HELD_OUT_SEED))
        )
        by_seed = []
        for seed in range(arguments.seeds):
            settings = replace(config, seed=100 + seed)
            reader = train_guide(survey, family=zoo.family.name, sizes=sizes_of(zoo), config=settings)
            by_seed.append(errors(reader, held_out, arguments.lengths))
        results.append({"probe": name, "settings": probe_identity(probe_to_json(probe)), "seeds": by_seed})
        print(f"{name:<24} {json.dumps(by_seed)}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, help="folder of the zoo; its base policy is used, for a tour its experts")
    parser.add_argument("--guide", type=Path, help="folder of the guide, with --scores; made if it is not there")
    parser.add_argument("--probes", nargs="*", default=PROBES.names(), help="probes without a guide")
    parser.add_argument("--scores", nargs="*", default=SCORES.names(), help="what the guide looks for")
    parser.add_argument("--tasks", type=int, default=1024, help="tasks of each survey")
    parser.add_argument("--held-out", type=int, default=256, help="tasks that readers are asked for")
    parser.add_argument("--updates", type=int, default=1500, help="of each reader, and of each member of the guide")
    parser.add_argument("--lengths", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--seeds", type=int, default=2, help="readers for each probe")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.scores and arguments.guide is None:
        raise MetaMapError(
            "--scores needs --guide, the folder of a guide; an empty --scores measures probes without one"
        )
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
