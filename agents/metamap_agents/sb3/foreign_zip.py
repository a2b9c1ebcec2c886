"""Read actors from any Stable-Baselines3 zip without running code from it.

Rule: the actor that is read acts as ``PPO.load(path).predict(observation, deterministic=True)`` does, or the zip is
refused. What decides that (spaces, policy class, ``policy_kwargs``) stands as text beside the pickles in the zip's
``data``; the pickles are never opened. Actors of any other shape are read by `metamap_agents.importers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_agents.sb3.bridge import SB3_ACTIVATIONS
from metamap_agents.sb3.zip_contents import FLATTEN, ZipContents, read_zip
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["actor_critic_parts", "read_sb3_actor", "sequential_parts"]

_ACTOR_CRITIC_NAME = re.compile(
    r"((mlp_extractor\.(policy|value)_net\.\d+|action_net|value_net)\.(weight|bias)|log_std)"
)

_POLICY_MODULE = "stable_baselines3.common.policies"
_HARMLESS = (
    *("net_arch", "activation_fn", "log_std_init", "ortho_init", "optimizer_class", "optimizer_kwargs"),
    *("share_features_extractor", "normalize_images", "full_std", "lr_schedule"),
)
"""Keys of ``policy_kwargs`` that change nothing between an observation and the mean action, but for those that the
weights' shapes and the activation tell; images are refused whatever ``normalize_images`` is."""
_OFF: dict[str, tuple[Any, ...]] = {
    "use_sde": (False,),
    "use_expln": (False,),
    "squash_output": (False,),
    "features_extractor_class": (FLATTEN,),
    "features_extractor_kwargs": (None, {}),
}
"""Keys that change the actor, with the values that do not."""


def read_sb3_actor(path: str | Path, activation: str | None = None) -> tuple[PolicySpec, NDArray[np.float32]]:
    """Read the actor from any PPO, A2C or TRPO zip without running code from it.

    Of ``policy.pth`` tensors are loaded (``weights_only=True``), of ``data`` the text. The sizes follow from the
    shapes. Observations of several axes are flattened in C order, as SB3 does; actions are clipped by the policy's
    owner, to the action space that the model was trained with. A ``VecNormalize`` is stored in another file, so ``phi``
    takes whatever the model was trained on; of stacked frames (``VecFrameStack``) it takes the stack.

    Args:
        path: the zip.
        activation: one of :data:`~metamap_agents.policy.spec.ACTIVATIONS`, for a zip that names none; None for the one
            that the zip names, or else SB3's default, tanh.

    Returns:
        The spec, and phi float32 [P].

    Raises:
        MetaMapError: not an SB3 zip, an actor that is not a perceptron with Gaussian actions, or one that does more
            than that: images (SB3 divides them by 255), discrete observations (one-hot), dictionaries, features
            extractors, gSDE, policy classes of other modules.
    """
    found = read_zip(path)
    parts = actor_critic_parts(found.state, found.path)
    _check_plain(found)
    size = found.observation_size()
    spec = PolicySpec.infer(parts, _activation(found, activation), str(path))
    log_std = found.state["log_std"]
    if tuple(log_std.shape) != (spec.action_size,):
        raise MetaMapError(f"{path}: log_std: expected ({spec.action_size},), file has {tuple(log_std.shape)} (gSDE?)")
    if size != spec.observation_size:
        raise MetaMapError(f"{path}: its observations have {size} numbers, its actor takes {spec.observation_size}")
    return spec, spec.join(parts).astype(np.float32)


def _check_plain(found: ZipContents) -> None:
    """Refuse a policy that does more than an MlpPolicy.

    Raises:
        MetaMapError: of a class or with a setting that changes its actor.
    """
    if found.policy_module != _POLICY_MODULE:
        raise MetaMapError(
            f"{found.path}: expected SB3's own MlpPolicy, its policy is a class of {found.policy_module or 'nowhere'}"
        )
    found.check_settings(_OFF, _HARMLESS)


def _activation(found: ZipContents, given: str | None) -> str:
    """The activation that SB3 wrote down as text, or the one that was given, or "tanh"."""
    text = found.settings.get("activation_fn")
    if text is None:
        return given or "tanh"
    stored = next((name for name, module in SB3_ACTIVATIONS.items() if text == str(module)), None)
    if stored is None:
        raise unknown_name(f"activation in {found.path}:", text, map(str, SB3_ACTIVATIONS.values()))
    if given not in (None, stored):
        raise MetaMapError(f"{found.path}: activation: expected {stored!r} as in the file, got {given!r}")
    return stored


def actor_critic_parts(state: Mapping[Any, torch.Tensor], path: Path) -> dict[str, NDArray[Any]]:
    """The actor's arrays under our names, out of the ``state_dict`` of an ``ActorCriticPolicy``.

    Raises:
        MetaMapError: it has other weights, or the actor is none with Gaussian actions.
    """
    for name in state:
        if not _ACTOR_CRITIC_NAME.fullmatch(str(name)):
            raise MetaMapError(f"{path}: {name}: expected the plain MlpPolicy of PPO or A2C, which has no such weights")
    for name in ("action_net.weight", "action_net.bias", "log_std"):
        if name not in state:
            raise MetaMapError(f"{path}: {name}: expected an actor with Gaussian actions, file has no such array")
    return sequential_parts(state, "mlp_extractor.policy_net", "action_net", path)


def sequential_parts(
    state: Mapping[Any, torch.Tensor], body: str, head: str | None, path: Path
) -> dict[str, NDArray[Any]]:
    """Arrays of a ``torch.nn.Sequential`` of linear layers and activations by turns, under our names.

    Args:
        state: the ``state_dict``.
        body: name of the module.
        head: name of a linear layer that follows; None for none.
        path: the file, for the error.

    Raises:
        MetaMapError: other layers.
    """
    names = [str(name) for name in state if str(name).startswith(f"{body}.")]
    indices = {name.removeprefix(f"{body}.").partition(".")[0] for name in names}
    order = sorted(int(index) for index in indices if index.isdecimal())
    if len(order) < len(indices) or order != list(range(0, 2 * len(order), 2)):
        raise MetaMapError(f"{path}: {body}: expected linear layers and activations by turns")
    prefixes = [f"{body}.{index}" for index in order] + ([head] if head else [])
    return {
        f"layers.{layer}.{kind}": state[f"{prefix}.{kind}"].detach().float().numpy()
        for layer, prefix in enumerate(prefixes)
        for kind in ("weight", "bias")
        if f"{prefix}.{kind}" in state
    }
