"""A small problem with a known answer: linear policies that depend on two hidden numbers, which D gives away.

The tasks are those of reacher-goal, so that real `Task` and `Rollout` objects can be made; nothing is simulated.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales
from metamap_rl.training.from_experts import task_coordinates

FAMILY = "reacher-goal"
SPEC = PolicySpec(get_family(FAMILY).observation_size, get_family(FAMILY).action_size, hidden=())
SMALL = MapperConfig(hypernetwork="residual", context_size=8, encoder_hidden=32, hypernetwork_hidden=32)
STEPS = 40
FEATURES = TransitionLayout.of(SPEC).size


@cache
def base_policy() -> BasePolicy:
    generator = np.random.default_rng(1)
    observations = SPEC.observation_size
    return BasePolicy(
        spec=SPEC,
        phi=generator.normal(size=SPEC.size).astype(np.float32),
        normalizer=ObservationNormalizer(
            generator.normal(size=observations), generator.uniform(0.5, 2, size=observations)
        ),
        log_std=np.full(SPEC.action_size, -1.0, dtype=np.float32),
        critic={"layers.0.weight": generator.normal(size=(1, observations)).astype(np.float32)},
        record={"steps": 1000},
    )


@cache
def pairs(count: int, seed: int) -> Pairs:
    """Pairs of `count` tasks with 3 rollouts of `STEPS` transitions: the mean change of the state tells the task."""
    generator = np.random.default_rng(seed)
    base, tasks = base_policy(), get_family(FAMILY).sample("train", count, seed)
    hidden = np.array([[np.cos(task["goal_angle"]), np.sin(task["goal_angle"])] for task in tasks])
    shared = np.random.default_rng(2)  # how tasks act is the same in training and test
    drift = shared.normal(size=(2, SPEC.observation_size))
    turn = shared.normal(size=(2, SPEC.size))

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    observations = normal(count, 3, STEPS, SPEC.observation_size)
    change = (hidden @ drift)[:, None, None] + normal(*observations.shape)
    phi = (base.phi + 0.5 * hidden @ turn).astype(np.float32)
    states = normal(count, 200, SPEC.observation_size)
    inputs = torch.from_numpy(base.normalizer.apply(states).astype(np.float32))
    rollouts = Rollouts(
        tasks=tuple(tasks),
        observations=observations,
        actions=generator.uniform(-1, 1, size=(count, 3, STEPS, SPEC.action_size)).astype(np.float32),
        rewards=normal(count, 3, STEPS),
        next_observations=(observations + change).astype(np.float32),
        terminated=np.zeros((count, 3, STEPS), dtype=bool),
        truncated=np.zeros((count, 3, STEPS), dtype=bool),
    )
    return Pairs(
        rollouts,
        phi=phi,
        states=states,
        expert_actions=forward(SPEC, torch.from_numpy(phi), inputs).numpy(),
        parameters=task_coordinates(tasks),
    )


def rollout_of(source: Pairs, task: int, length: int = STEPS) -> Rollout:
    """The first rollout of a task, as the mapper gets it when it is used."""
    return source.rollouts.rollout(task).head(length)


def features_of(source: Pairs) -> torch.Tensor:
    """Feature rows [T, n, F] of each task's first rollout."""
    return torch.from_numpy(source.rollouts.features()[:, 0])


def new_mapper(seed: int = 0, config: MapperConfig = SMALL) -> Mapper:
    """An untrained mapper of the problem."""
    base = base_policy()
    scales = Scales.of(pairs(6, 3).examples(base), torch.tensor(base.phi))
    return Mapper(config, base, family=FAMILY, scales=scales, probe={"kind": "noise"}, seed=seed)


def moved_mapper(seed: int = 0, config: MapperConfig = SMALL) -> Mapper:
    """A mapper whose every parameter has been moved, so that it no longer answers phi_0 to everything."""
    mapper = new_mapper(seed, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return mapper
