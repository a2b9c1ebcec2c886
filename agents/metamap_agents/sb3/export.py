"""Export of a policy to a zip of Stable-Baselines3, which opens where this project is not installed.

Other formats are in `metamap_rl.exporters`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3 import PPO
from torch import nn

from metamap_agents.policy.acting import check_box
from metamap_agents.policy.policies import Policies, accepts_triple
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import write_bytes
from metamap_agents.sb3.bridge import SB3_ACTIVATIONS, critic_into_sb3, log_std_into_sb3, phi_into_sb3
from metamap_envs.errors import MetaMapError

__all__ = ["export_sb3"]


@accepts_triple(1)
def export_sb3(
    path: str | Path,
    policy: Policies,
    log_std: ArrayLike | None,
    critic: Mapping[str, NDArray[Any]] | None,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Write a zip that ``PPO.load(path)`` reads without this project.

    The normaliser is folded into the first layers of actor and critic, so the model takes raw observations, and
    ``model.predict(observation, deterministic=True)`` gives the actions of
    :class:`~metamap_agents.policy.acting.WeightPolicy`.

    Args:
        path: must end in ``.zip`` (SB3 would add it).
        policy: the actor, with ``phi`` [P].
        log_std: [A]; None for the initial value of SB3, 0.
        critic: as :func:`critic_from_sb3` returns it, on normalised observations; None or empty for a new one with
            the actor's hidden sizes whose output is 0.
        observation_space: Box of shape (O,).
        action_space: Box of shape (A,).

    Raises:
        MetaMapError: sizes or names that do not fit, or a path that cannot be written.
    """
    spec, path = policy.spec, Path(path)
    if path.suffix != ".zip":
        raise MetaMapError(f"{path}: expected a name that ends in .zip")
    observation_box = check_box("observation_space", observation_space, spec.observation_size)
    action_box = check_box("action_space", action_space, spec.action_size)
    critic_spec = PolicySpec(spec.observation_size, 1, spec.hidden, spec.activation)
    if critic:
        critic_spec = PolicySpec.infer(critic, spec.activation, "critic")
    if (critic_spec.observation_size, critic_spec.action_size) != (spec.observation_size, 1):
        raise MetaMapError(f"critic: expected {spec.observation_size} inputs and 1 output, got {critic_spec}")

    model = _new_model(spec, critic_spec.hidden, observation_box, action_box)
    phi_into_sb3(model.policy, policy.folded())
    log_std_into_sb3(model.policy, np.zeros(spec.action_size) if log_std is None else log_std)
    if not critic:  # the hidden layers keep their random start: all zeros could never learn
        nn.init.zeros_(model.policy.value_net.weight)
        nn.init.zeros_(model.policy.value_net.bias)
    else:
        flat = critic_spec.join({name: np.asarray(array, dtype=np.float64) for name, array in critic.items()})
        critic_into_sb3(model.policy, critic_spec.split(policy.normalizer.fold(critic_spec, flat)))
    buffer = io.BytesIO()
    model.save(buffer)
    write_bytes(path, buffer.getvalue())


class _SpacesOnly(gym.Env[Any, Any]):
    """Two spaces and nothing else: a PPO model is made from an environment, and never saved with it."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Box) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def _new_model(spec: PolicySpec, critic_hidden: tuple[int, ...], observation: spaces.Box, action: spaces.Box) -> PPO:
    """A PPO model with freshly made weights, always the same; the global generators are left as they were."""
    # The spaces are pickled into the zip: plain new ones, as a subclass would need its module to be loaded.
    env = _SpacesOnly(*(spaces.Box(box.low, box.high, dtype=box.dtype.type) for box in (observation, action)))
    policy_kwargs = {
        "net_arch": {"pi": list(spec.hidden), "vf": list(critic_hidden)},
        "activation_fn": SB3_ACTIVATIONS[spec.activation],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PPO("MlpPolicy", env, policy_kwargs=policy_kwargs, device="cpu")
