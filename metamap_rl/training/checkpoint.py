"""Checkpoints of a training run; a resumed run gives the same mapper to the bit.

One .safetensors file contains the arrays (theta, the optimiser's moments, the generator's state, the best theta so far,
the auxiliary loss's network, additions to the training set) and, as JSON metadata, the counters and the run's identity.
One file, so that a run killed while writing leaves the previous checkpoint intact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.runtime.storage import check_arrays, load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig

__all__ = ["TrainState", "allocate_moments", "digest", "restore", "save"]

CHECKPOINT_FORMAT = "metamap-checkpoint-1"

_NEW = {"service_rounds": 0}  # settings that older checkpoints do not have, and what they were


@dataclass
class TrainState:
    """Mutable state of a training run."""

    mapper: Mapper
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    """Random generator of all batches."""
    update: int = 0
    """Number of updates done."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per validation, oldest first."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """State of the mapper with the lowest validation loss so far; empty without validation tasks."""
    auxiliary: nn.Module | None = None
    """Network of the auxiliary loss; None without one."""
    visited: dict[str, Tensor] = field(default_factory=dict)
    """What rounds added to the training data, see `metamap_rl.training.rounds`; empty before the first one."""


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a short hash of named arrays: names, shapes, dtypes and content."""
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hasher.update(f"{name}{array.shape}{array.dtype}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()[:16]


def save(path: Path, state: TrainState, identity: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing the previous one.

    Args:
        path: a name ending in ``.safetensors``.
        state: state of the run.
        identity: settings and data of the run, as a flat JSON document; compared by :func:`restore`.
    """
    document = {"update": state.update, "history": state.history, "identity": identity}
    save_arrays(path, _arrays(state), {"format": CHECKPOINT_FORMAT, "state": json.dumps(document)})


def restore(path: Path, state: TrainState, identity: Mapping[str, Any]) -> None:
    """Restore the state written by :func:`save` into ``state``, a newly set up run.

    Raises:
        MetaMapError: not a checkpoint, one of a run with different settings (the message names the first), or arrays of
            the wrong shape.
    """
    arrays, metadata = load_arrays(path)
    if metadata.get("format") != CHECKPOINT_FORMAT:
        raise MetaMapError(f"{path}: not a checkpoint of a training run ({CHECKPOINT_FORMAT})")
    try:
        document = json.loads(metadata["state"])
        began_with, update, history = dict(document["identity"]), document["update"], document["history"]
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: its description is damaged; remove the file to start again") from None
    began_with = {**_NEW, **TrainConfig.with_new_names(began_with)}
    _compare(began_with, json.loads(json.dumps(identity)), path)
    best = state.mapper.state_dict() if history else {}
    expected = _arrays(replace(state, best=best, visited={}))
    visited = {name: array for name, array in arrays.items() if name.startswith("visited.")}
    rest = {name: array for name, array in arrays.items() if name not in visited}
    check_arrays(rest, {name: array.shape for name, array in expected.items()}, path.name)

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    state.mapper.load_state_dict(_part(tensors, "mapper."))
    state.best = _part(tensors, "best.")
    state.visited = _part(tensors, "visited.")
    if state.auxiliary is not None:
        state.auxiliary.load_state_dict(_part(tensors, "auxiliary."))
    state.generator.set_state(tensors["generator"])
    packed = state.optimiser.state_dict()
    for index, moments in packed["state"].items():
        moments.update(_part(tensors, f"optimiser.{index}."))
    state.optimiser.load_state_dict(packed)
    state.update = update
    state.history = history


def _arrays(state: TrainState) -> dict[str, NDArray[Any]]:
    """Return the tensors of a run by name, the optimiser's as ``optimiser.<parameter>.<moment>``."""
    tensors = {f"mapper.{name}": tensor for name, tensor in state.mapper.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"visited.{name}": tensor for name, tensor in state.visited.items()}
    if state.auxiliary is not None:
        tensors |= {f"auxiliary.{name}": tensor for name, tensor in state.auxiliary.state_dict().items()}
    tensors["generator"] = state.generator.get_state()
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": moment for name, moment in moments.items()}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def allocate_moments(optimiser: torch.optim.Optimizer) -> None:
    """Allocate the moments of all parameters in a new Adam, which otherwise does so only with the first gradient.

    Checkpoints then contain the same arrays from the beginning. Takes an uncounted step with gradients and learning
    rates of zero, which changes nothing.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    for moments in optimiser.state.values():
        moments["step"].zero_()
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _compare(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Raise an error for a checkpoint of another run, naming the first difference in the order of ``wanted``."""
    for key in dict.fromkeys([*wanted, *found]):
        if found.get(key) != wanted.get(key):
            raise MetaMapError(
                f"{path}: checkpoint of another run: {key} was {found.get(key)!r}, is now {wanted.get(key)!r}; "
                "go on with the same settings, or remove the file to start again"
            )
