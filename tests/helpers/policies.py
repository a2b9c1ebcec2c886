"""Policies and networks that have learnt nothing, for tests that do not ask whether they are any good."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import strategies as st

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import ACTIVATIONS, PolicySpec
from metamap_envs import Family


def base_of(family: Family) -> BasePolicy:
    """Random weights; a probe does not ask whether they are any good."""
    spec = PolicySpec(family.observation_size, family.action_size, hidden=(16,))
    generator = np.random.default_rng(0)
    return BasePolicy(
        spec=spec,
        phi=generator.normal(0, 0.3, spec.size).astype(np.float32),
        normalizer=ObservationNormalizer.identity(spec.observation_size),
        log_std=np.zeros(spec.action_size, np.float32),
    )


WIDTHS = st.integers(1, 9)

SPECS = st.builds(
    PolicySpec,
    observation_size=WIDTHS,
    action_size=WIDTHS,
    hidden=st.lists(WIDTHS, max_size=3).map(tuple),
    activation=st.sampled_from(ACTIVATIONS),
)


def network(spec: PolicySpec) -> torch.nn.Sequential:
    """The same shape, made by PyTorch."""
    kinds = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}
    widths = (spec.observation_size, *spec.hidden, spec.action_size)
    modules: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules += [torch.nn.Linear(inputs, outputs), kinds[spec.activation]()]
    return torch.nn.Sequential(*modules[:-1])
