"""Speed of SB3's PPO over the fast simulator, against SB3's own ``make_vec_env`` with ``SubprocVecEnv``.

All train the same network with the same PPO settings (the expert recipes of cheetah-velocity, 16 environments, and of
cheetah-actuators, 32) on the same task, with the same number of environments; only the vector environment differs.
Torch has one thread, which is the fastest for networks of this size on shared cores. They are measured by turns.
Prints one JSON document.

    python scripts/bench_training.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from metamap_agents.experts.recipes import load_recipe
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.registry import get_family

FAMILIES = ("cheetah-velocity", "cheetah-actuators")


def ours(family: str, count: int) -> VecEnv:
    """The fast simulator."""
    return FamilyVecEnv([get_family(family).task()] * count, seed=0)


def subprocesses(family: str, count: int) -> VecEnv:
    """One process per environment, as SB3's documentation recommends for speed."""
    return make_vec_env(get_family(family).gym_id, count, seed=0, vec_env_cls=SubprocVecEnv)


def in_process(family: str, count: int) -> VecEnv:
    """All environments in this process, one after the other: SB3's default."""
    return make_vec_env(get_family(family).gym_id, count, seed=0, vec_env_cls=DummyVecEnv)


KINDS: dict[str, Callable[[str, int], VecEnv]] = {
    "metamap": ours,
    "sb3 SubprocVecEnv": subprocesses,
    "sb3 DummyVecEnv": in_process,
}


def steps_per_second(family: str, envs: VecEnv, updates: int) -> float:
    """Train PPO for a few updates, the first of which is not timed."""
    recipe = load_recipe(family, "expert")
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.n_epochs,
        gamma=recipe.gamma,
        gae_lambda=recipe.gae_lambda,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}},
        seed=0,
        device="cpu",
    )
    rollout = recipe.n_steps * recipe.n_envs
    model.learn(rollout)
    started = time.perf_counter()
    model.learn(updates * rollout)
    return updates * rollout / (time.perf_counter() - started)


def measure(family: str, repeats: int, updates: int) -> dict[str, Any]:
    """All kinds by turns."""
    recipe = load_recipe(family, "expert")
    speeds: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(repeats):
        for name, make in KINDS.items():
            envs = make(family, recipe.n_envs)
            speeds[name].append(steps_per_second(family, envs, updates))
            envs.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "recipe": recipe.model_dump(mode="json"),
        "steps_per_second": {
            name: {"median": medians[name], "min": min(values), "max": max(values)} for name, values in speeds.items()
        },
        "times_of_subproc": {name: median / medians["sb3 SubprocVecEnv"] for name, median in medians.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--updates", type=int, default=4, help="timed PPO updates per repeat")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "families": {family: measure(family, arguments.repeats, arguments.updates) for family in FAMILIES},
        "repeats": arguments.repeats,
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":  # SubprocVecEnv's workers import this file again
    from _running import run_script

    run_script(main)
