"""A whole zoo, mapper and bundle in seconds: real training, with so few steps that nothing much is learnt.

The fixtures ``tiny_zoo``, ``tiny_mapper`` and ``tiny_bundle`` of ``conftest.py`` share one of each per session.
Treat what they give as read-only; a test that writes makes its own with these functions.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.universal import UniversalPolicy, coordinate_scales, with_zero_inputs
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_envs.registry import get_family
from metamap_rl.adaptation.bundled import save_experts
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import CalibrationConfig, MapperRecipe, TrainConfig
from metamap_rl.training.pipeline import train_mapper

FAMILY = "reacher-goal"
SETTINGS: dict[str, Any] = {
    "n_envs": 4,
    "n_steps": 50,
    "batch_size": 100,
    "n_epochs": 2,
    "n_timesteps": 400,
    "start": "base",  # PPO on each task; no parent
}
COUNTS = TaskCounts(train=3, validation=2, test_in=3, test_out=1)
SEED = 5
CONFIG = TrainConfig(updates=20, warmup=2, batch_tasks=3, states_per_task=16, validation_every=10)
SHAPE = MapperConfig(context_size=8, encoder_hidden=16, hypernetwork_hidden=16)


def make_zoo(root: Path, counts: TaskCounts = COUNTS, *, seed: int = SEED, workers: int = 1) -> Zoo:
    """A zoo of reacher-goal: about half a second for the base policy and for each expert."""
    return fill_zoo(root, FAMILY, counts, seed=seed, workers=workers, overrides=RecipeOverrides(SETTINGS, SETTINGS))


def make_mapper(zoo: Zoo, *, seed: int = 0, calibration: CalibrationConfig | None = None) -> Mapper:
    """A mapper trained for 20 updates on D of its probe, with no self-check unless asked for."""
    recipe = MapperRecipe(replace(CONFIG, seed=seed), SHAPE, survey_tasks=16, actors="probe")
    return train_mapper(zoo, recipe=recipe, calibration=calibration)


def make_universal(base: BasePolicy, name: str = FAMILY) -> UniversalPolicy:
    """The base policy with random weights for the coordinates of the task."""
    family = get_family(name)
    mean, std = coordinate_scales(family, family.space.names, family.sample("train", 64, 0))
    spec = replace(base.spec, observation_size=base.spec.observation_size + len(mean))
    parts = with_zero_inputs(base.spec.split(base.phi), len(mean))
    weight = parts["layers.0.weight"]
    weight[:, -len(mean) :] = 0.1 * np.random.default_rng(1).normal(size=(len(weight), len(mean)))
    record = {"steps": 400}
    return UniversalPolicy(family.name, family.space.names, spec, spec.join(parts), mean, std, record=record)


def moved(mapper: Mapper) -> Mapper:
    """A copy whose policies are not the base policy, as the best of a moment's training may be."""
    found, generator = copy.deepcopy(mapper), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return found


def make_bundle(root: Path, zoo: Zoo, mapper: Mapper) -> Path:
    """A folder like ``metamap_rl/pretrained``, with one family in it; returns ``root``."""
    mapper.save(root / FAMILY)
    save_experts(root / FAMILY, zoo.experts("test-in"))
    return root
