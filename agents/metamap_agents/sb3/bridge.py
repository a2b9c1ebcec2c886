"""Conversion to and from Stable-Baselines3: the actor of an ``MlpPolicy`` as a vector, and a vector as a PPO zip.

Zips from elsewhere are read by `metamap_agents.sb3.foreign_zip`.

Names: the critic is a dictionary of arrays like a policy's parts, ``layers.0.weight``, ``layers.0.bias``, ...;
its last layer is SB3's ``value_net`` and has one output. Both networks are trained on normalised observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = [
    "SB3_ACTIVATIONS",
    "critic_from_sb3",
    "critic_into_sb3",
    "log_std_from_sb3",
    "log_std_into_sb3",
    "phi_from_sb3",
    "phi_into_sb3",
    "spec_from_sb3",
]


SB3_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}
"""The activations of a `PolicySpec` as SB3 takes them."""


def spec_from_sb3(policy: ActorCriticPolicy) -> PolicySpec:
    """Return the shape of the actor of a policy.

    Raises:
        MetaMapError: not a plain perceptron on flat observations with Gaussian actions.
    """
    if type(policy.features_extractor) is not FlattenExtractor:
        raise MetaMapError(f"SB3 policy: expected flat observations, got a {type(policy.features_extractor).__name__}")
    if type(policy.mlp_extractor) is not MlpExtractor:
        raise MetaMapError(f"SB3 policy: expected a plain MlpPolicy, got a {type(policy.mlp_extractor).__name__}")
    if not isinstance(policy.observation_space, spaces.Box) or is_image_space(policy.observation_space):
        raise MetaMapError(
            f"SB3 policy: expected observations that it takes as they are, got {policy.observation_space}, which it "
            "encodes or divides by 255 first"
        )
    if not isinstance(policy.action_dist, DiagGaussianDistribution):
        raise MetaMapError(f"SB3 policy: expected Gaussian actions, got a {type(policy.action_dist).__name__}")
    names = {module: name for name, module in SB3_ACTIVATIONS.items()}
    if policy.activation_fn not in names:
        raise unknown_name("activation of an SB3 policy", policy.activation_fn.__name__, names.values())
    return PolicySpec.infer(_arrays(_actor(policy)), names[policy.activation_fn], "SB3 policy")


def phi_from_sb3(policy: ActorCriticPolicy) -> NDArray[np.float32]:
    """Return a copy of the actor's weights, ``mlp_extractor.policy_net`` then ``action_net``, float32 [P].

    Raises:
        MetaMapError: see :func:`spec_from_sb3`.
    """
    return spec_from_sb3(policy).join(_arrays(_actor(policy))).astype(np.float32)


def phi_into_sb3(policy: ActorCriticPolicy, phi: ArrayLike) -> None:
    """Overwrite the actor's weights, in place. The state of the optimizer is unchanged.

    Raises:
        MetaMapError: see :func:`spec_from_sb3`; or ``phi`` is not of shape (P,).
    """
    spec = spec_from_sb3(policy)
    weights = np.asarray(phi)
    if weights.shape != (spec.size,):
        raise MetaMapError(f"phi: expected shape ({spec.size},), got {weights.shape}")
    _copy_into(_actor(policy), spec.split(weights))


def critic_from_sb3(policy: ActorCriticPolicy) -> dict[str, NDArray[np.float32]]:
    """Return copies of the value network's weights, ``mlp_extractor.value_net`` then ``value_net``."""
    return {name: array.astype(np.float32) for name, array in _arrays(_critic(policy)).items()}


def critic_into_sb3(policy: ActorCriticPolicy, critic: Mapping[str, NDArray[Any]]) -> None:
    """Overwrite the value network's weights, in place.

    Raises:
        MetaMapError: other names or shapes than :func:`critic_from_sb3` gives for this policy.
    """
    parameters = _critic(policy)
    check_arrays(critic, {name: tuple(parameter.shape) for name, parameter in parameters.items()}, "critic")
    _copy_into(parameters, critic)


def log_std_from_sb3(policy: ActorCriticPolicy) -> NDArray[np.float32]:
    """Return a copy of the log standard deviation of the actions, float32 [A].

    Raises:
        MetaMapError: see :func:`spec_from_sb3`.
    """
    spec_from_sb3(policy)
    return np.array(policy.log_std.detach().cpu().numpy(), dtype=np.float32)


def log_std_into_sb3(policy: ActorCriticPolicy, log_std: ArrayLike) -> None:
    """Overwrite the log standard deviation of the actions, in place.

    Raises:
        MetaMapError: see :func:`spec_from_sb3`; or another shape than (A,).
    """
    check_arrays({"log_std": np.asarray(log_std)}, {"log_std": (spec_from_sb3(policy).action_size,)}, "SB3 policy")
    _copy_into({"log_std": policy.log_std}, {"log_std": np.asarray(log_std)})


def _actor(policy: ActorCriticPolicy) -> dict[str, nn.Parameter]:
    return _parameters(policy.mlp_extractor.policy_net, policy.action_net)


def _critic(policy: ActorCriticPolicy) -> dict[str, nn.Parameter]:
    return _parameters(policy.mlp_extractor.value_net, policy.value_net)


def _parameters(body: nn.Module, head: nn.Module) -> dict[str, nn.Parameter]:
    linear = [module for module in (*body.modules(), *head.modules()) if isinstance(module, nn.Linear)]
    named = {}
    for index, layer in enumerate(linear):
        for kind in ("weight", "bias"):
            named[f"layers.{index}.{kind}"] = layer.get_parameter(kind)
    return named


def _arrays(parameters: Mapping[str, nn.Parameter]) -> dict[str, NDArray[Any]]:
    return {name: parameter.detach().cpu().numpy().copy() for name, parameter in parameters.items()}


def _copy_into(parameters: Mapping[str, nn.Parameter], arrays: Mapping[str, NDArray[Any]]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))
