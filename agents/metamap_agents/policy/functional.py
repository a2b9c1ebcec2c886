"""Batched policies as a differentiable function of their weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["forward"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "elu": F.elu}


def forward(spec: PolicySpec, phi: Tensor, observations: Tensor) -> Tensor:
    """Compute the mean actions of a batch of policies, each on its own observations.

    Args:
        spec: shape of the policies.
        phi: [..., P], float32 or float64; determines dtype and device of the computation.
        observations: [..., S, O] normalised, unless the normaliser is folded into ``phi``; cast to the dtype of
            ``phi``. Leading axes broadcast against those of ``phi``: [S, O]
            gives every policy the same states.

    Returns:
        [..., S, A], not clipped, differentiable in both arguments.

    Raises:
        MetaMapError: the last axes do not fit ``spec``, or the leading axes do not broadcast.
    """
    parts = spec.split(phi)
    if observations.ndim < 2 or observations.shape[-1] != spec.observation_size:
        expected = f"(..., states, {spec.observation_size})"
        raise MetaMapError(f"observations: expected shape {expected}, got {tuple(observations.shape)}")
    x = observations.to(phi.dtype)
    lead = _common_lead(phi.shape[:-1], x.shape[:-2])
    shape = (*lead, x.shape[-2], spec.action_size)
    single = phi.ndim == 1
    if single:  # one set of weights: all leading axes are just more states
        x = x.reshape(lead.numel() * x.shape[-2], x.shape[-1])
    else:
        x = x.expand(*lead, -1, -1).reshape(lead.numel(), *x.shape[-2:])
    activation = _ACTIVATIONS[spec.activation]
    last = len(spec.hidden)
    for index in range(last + 1):
        weight, bias = parts[f"layers.{index}.weight"], parts[f"layers.{index}.bias"]
        if single:
            x = torch.addmm(bias, x, weight.t())
        else:
            weight = weight.expand(*lead, -1, -1).reshape(lead.numel(), *weight.shape[-2:])
            bias = bias.expand(*lead, -1).reshape(lead.numel(), 1, weight.shape[1])
            x = torch.baddbmm(bias, x, weight.transpose(1, 2))
        if index < last:
            x = activation(x)
    return x.reshape(shape)


def _common_lead(of_phi: torch.Size, of_observations: torch.Size) -> torch.Size:
    try:
        return torch.Size(np.broadcast_shapes(of_phi, of_observations))
    except ValueError as error:
        raise MetaMapError(
            f"phi and observations: leading axes {tuple(of_phi)} and {tuple(of_observations)} do not broadcast"
        ) from error
