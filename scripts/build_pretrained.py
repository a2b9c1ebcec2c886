"""Build the bundled mappers: zoo of experts, mapper, and the experts of unseen tasks that the demo compares with.

Resumable: experts that are in the zoo are not trained again, and a stopped mapper training goes on. Mappers are written
in half precision. A bundle that is rebuilt, with --out elsewhere, replaces the one that is there by the rule of
`metamap results run bundles` (metamap_rl/results/experiments/bundles.py), on validation tasks. With --recalibrate only
the self-checks of bundles that are there are calibrated anew; the mappers stay as they are. Prints one JSON document.

    python scripts/build_pretrained.py --family cheetah-velocity --family reacher-goal
    python scripts/build_pretrained.py --recalibrate
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.experts.filling import TaskCounts, fill_zoo
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import list_families
from metamap_rl.adaptation.bundled import PRETRAINED, bundled_families, save_experts
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import MapperRecipe
from metamap_rl.training.pipeline import train_mapper

BUNDLED_EXPERTS = 6
"""Experts of unseen tasks in a bundle."""

DEFAULT_COUNTS = TaskCounts(train=40, validation=8, test_in=16)
COUNTS = {
    "reacher-goal": TaskCounts(train=64, validation=8, test_in=16),  # its experts take ten seconds
    "cheetah-actuators": TaskCounts(train=40, validation=8, test_in=16),  # the 64 sign patterns, once each
    "cheetah-velocity-actuators": TaskCounts(train=100, validation=8, test_in=16),
    "ant-direction": TaskCounts(train=40, validation=8, test_in=16),  # a full circle: nothing is outside
}
RECIPE = MapperRecipe().changed(updates=4000, forward_model=12)
POOLING = RECIPE.changed(survey_tasks=6144, forward_model=0)
"""Without a forward model beside the encoder, as bundles were until that was measured (docs/mappers.md)."""
PROBED = POOLING.changed(actors="probe", updates=2000, survey_tasks=2048)
"""With D of the probe alone, as all were before."""
ON_THE_PROBE = ("ant-direction", "ant-goal", "cheetah-direction", "cheetah-length")
"""Families whose bundles are still those of D from the probe alone; the others are trained on the mixture of actors."""
RECIPES = {
    "cheetah-velocity": POOLING,
    "reacher-goal": POOLING,
    **dict.fromkeys(ON_THE_PROBE, PROBED),
}
"""Mappers that are not made as all others, as chosen on validation tasks (docs/mappers.md)."""

SEEDS = {"cheetah-actuators": 1, "reacher-goal": 1}
"""Seeds of zoo and mapper of bundles that are not those of seed 0."""


def report(family: str, text: str) -> None:
    """Say what goes on, on standard error."""
    print(f"{family}: {text}", file=sys.stderr, flush=True)


def build(family: str, zoo_root: Path, out: Path, seed: int) -> dict[str, Any]:
    """Build one family's bundle."""
    zoo = fill_zoo(
        zoo_root / family,
        family,
        COUNTS.get(family, DEFAULT_COUNTS),
        seed=seed,
        on_expert=lambda done, total, expert: report(family, f"expert {done}/{total}, {expert.task.describe()}"),
    )
    report(family, "training the mapper")
    checkpoint = zoo_root / f"{family}-mapper.safetensors"
    mapper = train_mapper(zoo, recipe=RECIPES.get(family, RECIPE).changed(seed=seed), checkpoint=checkpoint)
    folder = out / family
    mapper.save(folder, overwrite=True, half=True)
    save_experts(folder, [zoo.get(task) for task in zoo.tasks("test-in", BUNDLED_EXPERTS)])
    checkpoint.unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"family": family, "folder": str(folder), "bytes": size, "chosen_update": mapper.record["chosen_update"]}


def recalibrate(family: str, out: Path) -> dict[str, Any]:
    """Calibrate the self-check of one family's bundle anew."""
    folder = out / family
    mapper = Mapper.load(folder)
    before = {name: array for name, array in mapper.arrays().items() if not name.startswith("check.")}
    with torch_threads(1):
        mapper.check = calibrate(mapper, on_stage=lambda stage: report(family, stage))
    mapper.save(folder, overwrite=True, half=True)
    after = Mapper.load(folder).arrays()
    for name, array in before.items():
        if not np.array_equal(array, after[name]):
            raise MetaMapError(f"{folder}: {name} has changed, restore the bundle")
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"family": family, "folder": str(folder), "bytes": size, "least_steps": mapper.check.least_steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=list_families(), help="default: the bundled ones")
    parser.add_argument("--zoo-root", type=Path, default=Path("runs/zoo"), help="folder of the zoos")
    parser.add_argument("--out", type=Path, default=PRETRAINED, help="folder of the bundles")
    parser.add_argument("--seed", type=int, help="of zoo and mapper; default: as the bundles that are there")
    parser.add_argument("--recalibrate", action="store_true", help="only the self-checks of the bundles that are there")
    arguments = parser.parse_args()
    if arguments.recalibrate:
        built = [recalibrate(family, arguments.out) for family in arguments.family or bundled_families()]
    else:
        families = arguments.family or bundled_families()
        seeds = {family: SEEDS.get(family, 0) if arguments.seed is None else arguments.seed for family in families}
        built = [build(family, arguments.zoo_root, arguments.out, seed) for family, seed in seeds.items()]
    print(json.dumps(built, indent=2))


if __name__ == "__main__":  # workers that train experts import this file again
    from _running import run_script

    run_script(main)
