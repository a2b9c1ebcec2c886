"""A mapper with a known answer in service: the mean reward is the task, and the self-check predicts it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.synthetic import FEATURES, SMALL, SPEC, base_policy
from metamap_agents.policy.acting import BatchedPolicy
from metamap_envs.registry import get_family
from metamap_rl import Adapter
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales
from metamap_rl.mapper.selfcheck import SelfCheck, Surprise

FAMILY = get_family("reacher-goal")
OBSERVATIONS, ACTIONS = SPEC.observation_size, SPEC.action_size
CONTEXT, GAIN, SMALL_GAIN = 8, 0.1, 0.1
COORDINATES = FAMILY.space.coordinate_names
NOISE = 0.1  # of rewards

Step = tuple[NDArray[np.float32], float, NDArray[np.float32]]


def service_mapper(*, check: bool = True, config: MapperConfig | None = None) -> Mapper:
    """A mapper whose z is linear in the mean reward of D, for |reward| up to about 2; policies depend on it."""
    config = config or dataclasses.replace(SMALL, encoder="linear", context_size=CONTEXT)
    zeros, ones = torch.zeros(FEATURES), torch.ones(FEATURES)
    scales = Scales(
        zeros, ones, torch.full((SPEC.size,), 0.3), torch.zeros(len(COORDINATES)), torch.ones(len(COORDINATES))
    )
    mapper = Mapper(
        config, base_policy(), family=FAMILY.name, scales=scales, probe={"kind": "noise"}, coordinates=COORDINATES
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mapper.hypernetwork.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        if config.encoder == "linear":
            encoder = mapper.encoder
            for parameter in encoder.parameters():
                parameter.zero_()
            encoder.read.weight[0, TransitionLayout.of(SPEC).reward] = 1.0
            encoder.head[0].weight[:2, 0] = torch.tensor([GAIN, -GAIN])
            encoder.head[0].bias[2:4] = torch.tensor([1.0, -1.0])
    if check:
        mapper.check = service_check()
    return mapper


def service_check(least_steps: int | None = 3) -> SelfCheck:
    """A check that predicts the reward from z, expects nothing of observations, and finds generated policies better."""
    seen, outcome = OBSERVATIONS + ACTIONS, OBSERVATIONS + 1
    first, last = np.zeros((4, seen + CONTEXT)), np.zeros((2 * outcome, 4))
    first[0, seen] = SMALL_GAIN  # tanh is linear there
    second = np.zeros((4, 4))
    second[0, 0] = 1.0
    slope = GAIN / math.sqrt(2 / CONTEXT)  # of z in the reward
    last[0, 0] = 1.0 / (slope * SMALL_GAIN)
    spread = np.zeros(2 * outcome)
    spread[outcome] = math.log(NOISE)
    lengths, size = (1, 10), seen + outcome
    returns = np.zeros((2, CONTEXT + 1, 2))
    returns[:, -1] = [-199.0, -200.0]  # less than any reward of most tests: no policy fails
    arrays = {
        "typical": np.full((2, size), 0.5),
        "spread": np.full((2, size), 0.5),
        "limit": np.full(2, 4.0),
        "returns": returns,
        "error": np.full(2, 0.5),
    }
    surprise = Surprise(
        np.zeros(seen, np.float32),
        np.eye(seen, dtype=np.float32),
        tuple(weight.astype(np.float32) for weight in (first, second, last)),
        tuple(bias.astype(np.float32) for bias in (np.zeros(4), np.zeros(4), spread)),
    )
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return SelfCheck(surprise=surprise, lengths=lengths, least_steps=least_steps, noise=0.1, **arrays)


def stream(rewards: NDArray[np.float64] | list[float], seed: int = 0) -> Iterator[Step]:
    """Transitions (observation, reward, next observation) of a robot whose mean reward is the task."""
    generator = np.random.default_rng(seed)
    observation = generator.normal(size=OBSERVATIONS).astype(np.float32)
    for mean in rewards:
        after = generator.normal(size=OBSERVATIONS).astype(np.float32)
        yield observation, float(mean + NOISE * generator.normal()), after
        observation = after


def served(adapter: Adapter, steps: Iterable[Step]) -> NDArray[np.float32]:
    """Actions [n, A] of a stretch of service; starts with a reset if there was none."""
    actions = []
    for observation, reward, after in steps:
        actions.append(adapter.act(observation))
        adapter.observe(reward, after)
    return np.array(actions)


def base_action(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Action [A] of the base policy for an observation [O]."""
    return BatchedPolicy(base_policy().policies(base_policy().phi[None]))(observation[None, None])[0, 0]
