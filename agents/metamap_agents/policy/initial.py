"""Random initial weights of a policy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.seeds import read_seed

__all__ = ["random_actor"]

_HIDDEN_GAIN, _OUTPUT_GAIN = float(np.sqrt(2.0)), 0.01


def random_actor(spec: PolicySpec, seed: int) -> NDArray[np.float32]:
    """Draw weights [P] as Stable-Baselines3 does for a new actor: orthogonal, and small in the output layer."""
    seed = read_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = [layer for layer in spec.layers if layer.name.endswith("weight")]
    parts = {}
    for layer in spec.layers:
        tensor = torch.zeros(layer.shape)
        if layer.name.endswith("weight"):
            gain = _OUTPUT_GAIN if layer == weights[-1] else _HIDDEN_GAIN
            torch.nn.init.orthogonal_(tensor, gain=gain, generator=generator)
        parts[layer.name] = tensor
    phi: NDArray[np.float32] = spec.join(parts).numpy()
    return phi
