"""Contents of a Stable-Baselines3 zip: the text of ``data`` and the tensors of ``policy.pth``; no pickle is opened."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.runtime.torch_files import BROKEN, LARGEST_FILE, load_state_dict
from metamap_envs.errors import MetaMapError
from metamap_envs.files import refuse_pipes

__all__ = ["FLATTEN", "ZipContents", "read_zip"]

_LARGEST_ENTRY = LARGEST_FILE

FLATTEN = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
"""SB3's features extractor that changes nothing, as its text."""


@dataclass(frozen=True)
class ZipContents:
    """What can be known of a Stable-Baselines3 zip without running code from it.

    Attributes:
        path: of the zip.
        about: the text of ``data``: values as JSON, of others a description beside the pickle.
        state: the ``state_dict`` of the policy.
    """

    path: Path
    about: Mapping[str, Any]
    state: Mapping[Any, torch.Tensor]

    @property
    def settings(self) -> dict[str, Any]:
        """``policy_kwargs``, with ``use_sde`` of the algorithm."""
        return {"use_sde": self.about.get("use_sde", False), **self.about.get("policy_kwargs", {})}

    @property
    def policy_module(self) -> str | None:
        """Module of the policy's class; None if it is not told."""
        policy = self.about.get("policy_class")
        module = policy.get("__module__") if isinstance(policy, dict) else None
        return module if isinstance(module, str) else None

    def check_settings(self, off: Mapping[str, Collection[Any]], harmless: Collection[str]) -> None:
        """Refuse settings that change the actor.

        Args:
            off: keys that change it, with the values that do not.
            harmless: keys that do not, whatever their value.

        Raises:
            MetaMapError: another key, or another value.
        """
        for key, value in self.settings.items():
            if key in off and value not in off[key]:
                raise MetaMapError(f"{self.path}: expected SB3's plain MlpPolicy, it has {key} = {value}")
            if key not in off and key not in harmless and not key.startswith(":"):
                raise MetaMapError(f"{self.path}: expected SB3's plain MlpPolicy, it has a setting {key} of its own")

    def observation_size(self) -> int:
        """How many numbers an observation has; refuses those that SB3 does not take as they are.

        Raises:
            MetaMapError: images, spaces that are encoded, or no text that tells.
        """
        kind, shape, space = self._space("observation_space")
        if kind not in ("Box", "MultiBinary"):
            raise MetaMapError(
                f"{self.path}: expected observations in a Box, which the network takes as they are; it has {kind}, "
                "which Stable-Baselines3 encodes first"
            )
        if not isinstance(shape, list) or not all(type(length) is int and length > 0 for length in shape):
            raise MetaMapError(f"{self.path}: the shape of its observations cannot be read, got {shape!r}")
        if kind == "Box" and (space.get("dtype") is None or (len(shape) == 3 and str(space["dtype"]) == "uint8")):
            raise MetaMapError(
                f"{self.path}: expected observations that the network takes as they are; it has images "
                f"({space.get('dtype')}, {shape}), whose axes Stable-Baselines3 turns and whose values it divides by "
                "255"
            )
        return int(np.prod(shape))

    def action_range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest action, [A] each.

        Raises:
            MetaMapError: no Box, or bounds that are not finite or that the text does not tell.
        """
        kind, _, space = self._space("action_space")
        if kind != "Box":
            raise MetaMapError(f"{self.path}: expected actions in a Box, it has {kind}")
        low, high = (self._numbers(space.get(name), name) for name in ("low", "high"))
        if low.shape != high.shape or not (low < high).all():
            raise MetaMapError(f"{self.path}: expected a range of actions, got {low} to {high}")
        return low, high

    def _numbers(self, text: object, name: str) -> NDArray[np.float64]:
        words = str(text).replace("[", " ").replace("]", " ").split()
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError:
            numbers = np.array([np.nan])
        if not len(numbers) or not np.isfinite(numbers).all():
            raise MetaMapError(f"{self.path}: expected finite bounds of the actions, {name} is {text}")
        return numbers

    def _space(self, name: str) -> tuple[str, Any, Mapping[str, Any]]:
        """Kind, shape and text of a space."""
        space = self.about.get(name)
        space = space if isinstance(space, dict) else {}
        kind = str(space.get(":type:", "unknown")).removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
        return kind, space.get("_shape", space.get("shape")), space


def read_zip(path: str | Path) -> ZipContents:
    """Read a zip that Stable-Baselines3 or sb3-contrib saved.

    Raises:
        MetaMapError: no such file, another kind of file, a broken one, or one that is too large.
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
    except BROKEN as error:
        raise MetaMapError(f"{path}: expected a zip of Stable-Baselines3 ({error})") from error
    return ZipContents(path, _about(data, path), load_state_dict(weights, f"{path}: policy.pth"))


def _about(data: bytes, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MetaMapError(f"{path}: data: expected a JSON object") from error
    if not isinstance(about, dict) or not isinstance(about.get("policy_kwargs", {}), dict):
        raise MetaMapError(f"{path}: data: expected a JSON object")
    return about


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if name not in archive.namelist():
        raise MetaMapError(f"{path}: expected a zip of Stable-Baselines3, there is no {name} in it")
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MetaMapError(f"{path}: {name}: expected an entry that is stored or deflated, as SB3 writes them")
    if info.file_size > _LARGEST_ENTRY:
        raise MetaMapError(f"{path}: {name} is larger than {_LARGEST_ENTRY} bytes: not a policy of this kind")
    return archive.read(info)
