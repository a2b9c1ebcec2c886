"""Files of CleanRL: ``state_dict`` of the agents of its scripts for PPO (and RPO), SAC, TD3 and DDPG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.importers._scaling import Scaling
from metamap_agents.importers.base import IMPORTERS, ForeignPolicy, ImportOptions, Network, content_of
from metamap_agents.runtime.torch_files import load_state_dicts
from metamap_agents.sb3.foreign_zip import sequential_parts
from metamap_envs.errors import MetaMapError

__all__ = ["CleanRL"]

_PPO, _SAC, _TD3 = "PPO of CleanRL", "SAC of CleanRL", "TD3 or DDPG of CleanRL"
_OUTPUTS = {"fc_mean": _SAC, "fc_mu": _TD3}
_CLIP = 10.0  # of the normalised observations in CleanRL's PPO

State = Mapping[Any, torch.Tensor]


@IMPORTERS.register("cleanrl")
class CleanRL:
    """A file that CleanRL's scripts for continuous actions save (``--save-model``), or the ``state_dict`` of an actor.

    The layers have the names of those scripts: ``actor_mean.*`` and ``actor_logstd`` (PPO, tanh), ``fc1``, ``fc2``,
    ``fc_mean`` (SAC, ReLU) or ``fc_mu`` (TD3, ReLU), with ``action_scale`` and ``action_bias``. PPO takes normalised
    observations, whose statistics are not in the file: the options name them.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".cleanrl_model")

    def __call__(self, path: Path, options: ImportOptions) -> ForeignPolicy:
        """See `metamap_agents.importers.base.Importer`."""
        found = _read(path, options)
        size = found.network.shape.action_size
        low, high = options.range(size, found.told)
        return ForeignPolicy(
            kind=found.kind,
            path=path,
            observation_size=found.network.shape.observation_size,
            low=low,
            high=high,
            outputs=found.network,
            unit=found.network.squashed,
            scaling=found.scaling,
            network=found.network,
        )


@dataclass(frozen=True)
class _Read:
    kind: str
    network: Network
    scaling: Scaling | None
    told: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def _read(path: Path, options: ImportOptions) -> _Read:
    state = load_state_dicts(content_of(path), str(path))[0]
    if "actor_logstd" in state:
        parts = sequential_parts(state, "actor_mean", None, path)
        return _Read(_PPO, Network(parts, "tanh", what=str(path)), _ppo_scaling(path, options), None)
    output = next((name for name in _OUTPUTS if f"{name}.weight" in state), None)
    if output is None:
        names = ", ".join(sorted(map(str, state))[:6])
        raise MetaMapError(
            f"{path}: expected an agent of CleanRL's for continuous actions (actor_mean.* and actor_logstd, or fc1, "
            f"fc2 and fc_mean or fc_mu), it has {names}"
        )
    network = Network(_parts(state, output), "relu", squashed=True, what=str(path))
    return _Read(_OUTPUTS[output], network, options.scaling(), _range(state, network.shape.action_size, path))


def _parts(state: State, output: str) -> dict[str, NDArray[Any]]:
    """Arrays of ``fc1``, ``fc2``, ... and the output layer, under our names."""
    names: list[str] = []
    while f"fc{len(names) + 1}.weight" in state:
        names.append(f"fc{len(names) + 1}")
    return {
        f"layers.{index}.{kind}": state[f"{name}.{kind}"].detach().float().numpy()
        for index, name in enumerate([*names, output])
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in state
    }


def _range(state: State, size: int, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest action, from the scale and the bias of its output."""
    for name in ("action_scale", "action_bias"):
        if name not in state:
            raise MetaMapError(f"{path}: expected {name} beside the layers, as CleanRL's actor has it")
        if state[name].numel() not in (1, size):
            raise MetaMapError(f"{path}: {name}: expected {size} numbers, got {state[name].numel()}")
    scale, bias = (np.resize(state[name].numpy().astype(np.float64), size) for name in ("action_scale", "action_bias"))
    if not (scale > 0).all():
        raise MetaMapError(f"{path}: action_scale: expected positive numbers, got {scale}")
    return bias - scale, bias + scale


def _ppo_scaling(path: Path, options: ImportOptions) -> Scaling | None:
    if options.normalizer is None:
        raise MetaMapError(
            f"{path}: CleanRL's PPO takes normalised observations, whose statistics are not in the file: expected "
            "normalizer FILE (.npz with the mean and var of its NormalizeObservation), or normalizer 'none' for one "
            "that was trained on raw observations"
        )
    scaling = options.scaling()
    return replace(scaling, clip=_CLIP) if scaling is not None and scaling.clip == math.inf else scaling
