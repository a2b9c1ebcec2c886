"""Seeds: whole numbers of any library work everywhere, and all others are refused in one sentence by one function."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import metamap_agents
import metamap_envs
import metamap_rl
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base
from metamap_agents.policy.evaluation import random_returns
from metamap_envs import MetaMapError, Task, get_family
from metamap_envs.seeds import read_seed
from metamap_rl.training.config import TrainConfig

WHOLE = [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)]
BAD = [-1, 2**32, 3.0, "3", None, True, np.bool_(True), torch.tensor(True), np.array([3]), np.float32(3)]
RECORDS = ("BenchCell", "Bundles", "Cell", "CellResult", "Choice", "InService", "Pilots", "Replay")
RECORDS += ("Scoreboard", "RunSummary", "Settings")
LATER = ("global_generators_kept", "isolated_training")
"""What holds a seed that something else has read, and draws nothing; and context managers, which read it later."""


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not any(part in found.name for part in (".cli", ".methods", ".families.")):
            yield importlib.import_module(found.name)


def _takes_a_seed() -> Iterator[Any]:
    for package in (metamap_envs, metamap_agents, metamap_rl):
        for module in _modules(package):
            for name in getattr(module, "__all__", ()):
                thing = getattr(module, name)
                if not inspect.isclass(thing) and not inspect.isfunction(thing):
                    continue
                if isinstance(thing, type) and issubclass(thing, Exception):
                    continue
                if thing.__module__ != module.__name__ or getattr(thing, "_is_protocol", False):
                    continue
                if name not in RECORDS + LATER and "seed" in inspect.signature(thing).parameters:
                    yield thing


@pytest.mark.parametrize("seed", WHOLE, ids=repr)
def test_whole_numbers_of_any_library_are_seeds(seed: Any) -> None:
    assert read_seed(seed) == 3
    assert type(read_seed(seed)) is int
    family = get_family("reacher-goal")
    assert family.sample("train", 2, seed) == family.sample("train", 2, 3)
    assert TrainConfig(seed=seed) == TrainConfig(seed=3)
    env, same = family.task(), 3
    returns = [random_returns([env], episodes=1, seed=one) for one in (seed, same)]
    np.testing.assert_array_equal(*returns)


@pytest.mark.parametrize("seed", BAD, ids=repr)
def test_anything_else_is_refused(seed: Any) -> None:
    with pytest.raises(MetaMapError, match=r"seed: expected an integer in \[0, 4294967295\], got"):
        read_seed(seed)


def test_everything_public_that_takes_a_seed_reads_it_first() -> None:
    calls = list(_takes_a_seed())
    assert len(calls) > 30
    wrong = []
    for call in calls:
        needed = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
        others = {p.name: None for p in needed if p.kind is not p.VAR_KEYWORD and p.name != "seed"}
        for bad in (-1, "3", 1.5, True):
            try:
                call(**others, seed=bad)
            except MetaMapError as error:
                if "seed" in str(error):
                    continue
            except Exception as error:  # noqa: BLE001  # it got further than the seed
                wrong.append((call.__module__, call.__name__, bad, repr(error)))
                continue
            wrong.append((call.__module__, call.__name__, bad, "accepted"))
    assert not sorted({(module, name) for module, name, _, _ in wrong}), wrong


@pytest.mark.parametrize("name", ["MetaMap/ReacherGoal-v0", "MetaMap/CartpoleLength-v0"])
def test_reset_seeds(name: str) -> None:
    if "Cartpole" in name:
        get_family("cartpole-length")
    env = gym.make(name)
    first, _ = env.reset(seed=5)
    for seed in (np.int64(5), torch.tensor(5)):
        np.testing.assert_array_equal(env.unwrapped.reset(seed=seed)[0], first)  # type: ignore[arg-type]
    for bad in (-1, "5", 1.5, True):
        with pytest.raises(MetaMapError, match="reset seed: expected an integer of at least 0"):
            env.unwrapped.reset(seed=bad)  # type: ignore[arg-type]
    vector = gym.make_vec(name, num_envs=2)
    one, _ = vector.reset(seed=np.int64(5))  # type: ignore[arg-type]
    other, _ = vector.reset(seed=np.array([5, 6]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, other)
    for wrong in ("55", [1.5, 2], -1, [5]):
        with pytest.raises(MetaMapError, match="reset seed"):
            vector.reset(seed=wrong)  # type: ignore[arg-type]
    env.close()
    vector.close()


def test_training_takes_seeds_of_numpy() -> None:
    recipe = load_recipe("reacher-goal", "base", n_timesteps=64, n_envs=2, n_steps=32, batch_size=64, n_epochs=1)
    one, other = (train_base("reacher-goal", recipe, seed=seed) for seed in (3, np.int64(3)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one.phi, other.phi)
    assert type(other.record["seed"]) is int


def test_a_task_is_no_seed() -> None:
    task: Task = get_family("reacher-goal").task()
    with pytest.raises(MetaMapError, match="seed: expected an integer"):
        random_returns([task], episodes=1, seed=task)  # type: ignore[arg-type]
