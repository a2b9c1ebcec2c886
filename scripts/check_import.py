"""Loss of return of imported experts. Prints one JSON document, which is docs/results/import.json.

For each family, Stable-Baselines3 trains TD3 and SAC on one training task, whose zips become experts of a zoo with a
base policy of its own: actors of 96, 96 units with ReLU and tanh, distilled into the zoo's networks. The
loss is that of the mean return over 50 episodes on the same reset seeds, seeds that the distillation has not used.
What is in --folder is not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from _running import run_script
from metamap_agents.experts.building import build_base
from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.importing import ImportSettings, import_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.importers import read_policy
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, make_folder, read_json, write_json
from metamap_agents.runtime.torch_state import isolated_training
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import parse
from metamap_envs.task import Task

STEPS = {"pendulum-swingup": 15_000, "reacher-goal": 15_000}
"""Environment steps of the training, by family."""

BASE_STEPS = 100_000
"""Environment steps of the base policy: it gives shape, normaliser and initial weights."""

ENVIRONMENTS = 4
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "train_freq": 8,
    "gradient_steps": -1,
    "batch_size": 128,
    "device": "cpu",
}


def train(algorithm: str, task: Task, steps: int, path: Path) -> float:
    """Train a policy on one task, store its zip; returns the seconds."""
    started = time.perf_counter()
    envs = FamilyVecEnv([task] * ENVIRONMENTS, 0, None, 1, np.float32)
    size = get_family(task.family).action_size
    settings = {**SETTINGS, "buffer_size": steps, "learning_starts": min(500, steps // 2), "seed": 0}
    settings["policy_kwargs"] = {"net_arch": [96, 96]}  # a dictionary of its own: SAC writes into it
    with isolated_training():
        if algorithm == "td3":
            model: Any = TD3(
                "MlpPolicy", envs, action_noise=NormalActionNoise(np.zeros(size), np.full(size, 0.2)), **settings
            )
        else:
            model = SAC("MlpPolicy", envs, **settings)
        model.learn(steps)
    model.save(path)
    return round(time.perf_counter() - started, 1)


def measure(
    family: str, algorithm: str, steps: int, base_steps: int, settings: ImportSettings, folder: Path
) -> dict[str, Any]:
    """Train where there is no zip, import, and return what was lost."""
    task = get_family(family).sample("train", 1, 0)[0]
    path = folder / f"{algorithm}-{family}.zip"
    if path.with_suffix(".json").exists():
        found: dict[str, Any] = read_json(path.with_suffix(".json"))
        return found
    seconds = None if path.exists() else train(algorithm, task, steps, path)
    zoo = Zoo.create(folder / f"zoo-{family}", family, 0)
    build_base(zoo, overrides={"n_timesteps": base_steps}, num_threads=1)
    expert = import_expert(task, zoo.base, read_policy(path), settings)
    imported = expert.record["imported"]
    document = {
        "family": family,
        "algorithm": algorithm,
        "task": task.to_json(),
        "steps": steps,
        "training_seconds": seconds,
        "import_seconds": expert.record["seconds"],
        **{name: imported[name] for name in ("method", "network", "distillation", "loss") if name in imported},
    }
    write_json(path.with_suffix(".json"), document)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=sorted(STEPS), help="default: all")
    parser.add_argument("--algorithm", action="append", choices=["sac", "td3"], help="default: both")
    parser.add_argument("--steps", type=int, help="environment steps of the training")
    parser.add_argument("--base-steps", type=int, default=BASE_STEPS, help="environment steps of the base policy")
    parser.add_argument("--updates", type=int, default=6_000, help="updates in each round of the distillation")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of the distillation on states of the student")
    parser.add_argument("--states", type=int, default=10_000, help="states of each of its rounds")
    parser.add_argument("--folder", type=Path, help="keeps the zips")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 100:
        raise MetaMapError(f"--steps: expected at least 100, got {arguments.steps}")
    distillation = {"rounds": arguments.rounds, "states": arguments.states, "steps": arguments.updates}
    settings = ImportSettings(distillation=parse(Distillation, distillation, "distillation"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_folder(arguments.folder or temporary)
        experts = [
            measure(family, algorithm, arguments.steps or STEPS[family], arguments.base_steps, settings, folder)
            for family in arguments.family or sorted(STEPS)
            for algorithm in arguments.algorithm or ("sac", "td3")
        ]
    print(json.dumps({"machine": describe_machine(), "experts": experts, "versions": library_versions()}, indent=2))


if __name__ == "__main__":
    run_script(main)
