"""Read actors from any Stable-Baselines3 zip without running code from it.

Rule: the actor that is read acts as ``PPO.load(path).predict(observation, deterministic=True)`` does, or the zip is
refused. What decides that (spaces, policy class, ``policy_kwargs``) stands as text beside the pickles in the zip's
``data``; the pickles are never opened.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_agents.sb3.bridge import SB3_ACTIVATIONS
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.files import refuse_pipes

__all__ = ["read_sb3_actor"]

# What zipfile and a restricted unpickler raise on bytes that are broken in one way or another.
_BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
    *(ValueError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError, MemoryError),
)
_ACTOR_CRITIC_NAME = re.compile(
    r"((mlp_extractor\.(policy|value)_net\.\d+|action_net|value_net)\.(weight|bias)|log_std)"
)
_LARGEST_ENTRY = 256 * 1024**2  # bytes; an entry of a zip says its own size, and a hostile one says it wants all memory

_POLICY_MODULE = "stable_baselines3.common.policies"
_FLATTEN = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
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
    "features_extractor_class": (_FLATTEN,),
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
    path = Path(path)
    refuse_pipes(path)
    try:
        with zipfile.ZipFile(path) as archive:
            weights, data = _entry(archive, "policy.pth", path), _entry(archive, "data", path)
    except FileNotFoundError as error:
        raise MetaMapError(f"{path}: no such file") from error
    except MetaMapError:
        raise
    except _BROKEN as error:
        raise MetaMapError(f"{path}: expected a zip of Stable-Baselines3 ({error})") from error
    about = _about(data, path)
    state = _state_dict(weights, path)
    parts = _actor_parts(state, path)
    _check_plain(about, path)
    size = _check_observations(about, path)
    spec = PolicySpec.infer(parts, _activation(about, activation, path), str(path))
    log_std = state["log_std"]
    if tuple(log_std.shape) != (spec.action_size,):
        raise MetaMapError(f"{path}: log_std: expected ({spec.action_size},), file has {tuple(log_std.shape)} (gSDE?)")
    if size != spec.observation_size:
        raise MetaMapError(f"{path}: its observations have {size} numbers, its actor takes {spec.observation_size}")
    return spec, spec.join(parts).astype(np.float32)


# what the text says --------------------------------------------------------------------------------------------------


def _about(data: bytes, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MetaMapError(f"{path}: data: expected a JSON object") from error
    if not isinstance(about, dict) or not isinstance(about.get("policy_kwargs", {}), dict):
        raise MetaMapError(f"{path}: data: expected a JSON object")
    return about


def _check_plain(about: Mapping[str, Any], path: Path) -> None:
    """Refuse a policy that does more than an MlpPolicy.

    Raises:
        MetaMapError: of a class or with a setting that changes its actor.
    """
    policy = about.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    if module != _POLICY_MODULE:
        raise MetaMapError(f"{path}: expected SB3's own MlpPolicy, its policy is a class of {module or 'nowhere'}")
    settings = {"use_sde": about.get("use_sde", False), **about.get("policy_kwargs", {})}
    for key, value in settings.items():
        if key in _OFF and value not in _OFF[key]:
            raise MetaMapError(f"{path}: expected SB3's plain MlpPolicy, it has {key} = {value}")
        if key not in _OFF and key not in _HARMLESS and not key.startswith(":"):
            raise MetaMapError(f"{path}: expected SB3's plain MlpPolicy, it has a setting {key} of its own")


def _check_observations(about: Mapping[str, Any], path: Path) -> int:
    """How many numbers an observation has; refuses those that SB3 does not take as they are.

    Raises:
        MetaMapError: images, spaces that are encoded, or no text that tells.
    """
    space = about.get("observation_space")
    space = space if isinstance(space, dict) else {}
    kind = str(space.get(":type:", "unknown")).removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
    shape = space.get("_shape", space.get("shape"))
    if kind not in ("Box", "MultiBinary"):
        raise MetaMapError(
            f"{path}: expected observations in a Box, which the network takes as they are; it has {kind}, "
            "which Stable-Baselines3 encodes first"
        )
    if not isinstance(shape, list) or not all(type(length) is int and length > 0 for length in shape):
        raise MetaMapError(f"{path}: the shape of its observations cannot be read, got {shape!r}")
    if kind == "Box" and (space.get("dtype") is None or (len(shape) == 3 and str(space["dtype"]) == "uint8")):
        raise MetaMapError(
            f"{path}: expected observations that the network takes as they are; it has images ({space.get('dtype')}, "
            f"{shape}), whose axes Stable-Baselines3 turns and whose values it divides by 255"
        )
    return int(np.prod(shape))


def _activation(about: Mapping[str, Any], given: str | None, path: Path) -> str:
    """The activation that SB3 wrote down as text, or the one that was given, or "tanh"."""
    text = about.get("policy_kwargs", {}).get("activation_fn")
    if text is None:
        return given or "tanh"
    stored = next((name for name, module in SB3_ACTIVATIONS.items() if text == str(module)), None)
    if stored is None:
        raise unknown_name(f"activation in {path}:", text, map(str, SB3_ACTIVATIONS.values()))
    if given not in (None, stored):
        raise MetaMapError(f"{path}: activation: expected {stored!r} as in the file, got {given!r}")
    return stored


# the weights ---------------------------------------------------------------------------------------------------------


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if name not in archive.namelist():
        raise MetaMapError(f"{path}: expected a zip of Stable-Baselines3, there is no {name} in it")
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MetaMapError(f"{path}: {name}: expected an entry that is stored or deflated, as SB3 writes them")
    if info.file_size > _LARGEST_ENTRY:
        raise MetaMapError(f"{path}: {name} is larger than {_LARGEST_ENTRY} bytes: not a policy of this kind")
    return archive.read(info)


def _state_dict(content: bytes, path: Path) -> dict[Any, torch.Tensor]:
    """A dictionary of tensors of floats out of what ``torch.save`` wrote."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of old files, and of files that are refused below anyway
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _BROKEN as error:
        # PyTorch's own message tells how to switch the protection off; that is not repeated here.
        raise MetaMapError(f"{path}: policy.pth: expected tensors, it is broken or holds something else") from error
    if not isinstance(state, dict) or not all(map(_is_plain, state.values())):
        raise MetaMapError(f"{path}: policy.pth: expected a dictionary of tensors of floats")
    for name, tensor in state.items():
        if tensor.nbytes > tensor.untyped_storage().nbytes():  # strides of 0 make any size of a few numbers
            raise MetaMapError(f"{path}: policy.pth: {name}: expected {tensor.numel()} numbers, file has fewer")
        if not tensor.isfinite().all():
            raise MetaMapError(f"{path}: policy.pth: {name}: expected finite numbers")
    return state


def _actor_parts(state: Mapping[Any, torch.Tensor], path: Path) -> dict[str, NDArray[Any]]:
    """The actor's arrays under our names, out of the ``state_dict`` of an ``ActorCriticPolicy``."""
    for name in state:
        if not _ACTOR_CRITIC_NAME.fullmatch(str(name)):
            raise MetaMapError(f"{path}: {name}: expected the plain MlpPolicy of PPO or A2C, which has no such weights")
    for name in ("action_net.weight", "action_net.bias", "log_std"):
        if name not in state:
            raise MetaMapError(f"{path}: {name}: expected an actor with Gaussian actions, file has no such array")
    body = sorted({int(name.split(".")[2]) for name in state if name.startswith("mlp_extractor.policy_net.")})
    if body != list(range(0, 2 * len(body), 2)):  # linear layers, each with an activation behind it
        raise MetaMapError(f"{path}: mlp_extractor.policy_net: expected linear layers and activations by turns")
    prefixes = [*(f"mlp_extractor.policy_net.{index}" for index in body), "action_net"]
    return {
        f"layers.{layer}.{kind}": state[f"{prefix}.{kind}"].detach().float().numpy()
        for layer, prefix in enumerate(prefixes)
        for kind in ("weight", "bias")
        if f"{prefix}.{kind}" in state
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.layout == torch.strided
