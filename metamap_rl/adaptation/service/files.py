"""The state of an adapter on disk: one ``.safetensors`` file, with a JSON document in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.runtime.storage import check_arrays, load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import STRICT, parse
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.mapping import ServiceVerdict
from metamap_rl.mapper.mapper import Mapper

__all__ = ["OPTIONAL", "AdapterState", "load_state", "mapper_id", "save_state"]

_FORMAT = "metamap-adapter-2"
_FLAT = "metamap-adapter-1"  # its verdict was one record
OPTIONAL = ("observation", "last_action", "pending_observation", "pending_action", "previous")
"""Arrays that are stored where there is something: the last of them are weights of the policy before a blend."""

_Count = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class AdapterState:
    """All of an adapter's state that is no array."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    mapper: str
    config: AdapterConfig
    verdict: ServiceVerdict
    hold: bool
    generated: bool
    previous_generated: bool
    blended: _Count
    step: _Count
    swaps: _Count
    lost: _Count
    count: _Count
    begin: _Count
    changes: _Count
    given_up: _Count = 0
    rescues: _Count = 0
    rescued: _Count = 0


def mapper_id(mapper: Mapper) -> str:
    """Fingerprint of a mapper: family, shape, theta, base policy and self-check."""
    shape = asdict(mapper.config)
    if not shape["forward_model"]:  # of mappers from before there were any
        del shape["forward_model"]
    found = hashlib.sha256(json.dumps([mapper.family, shape], sort_keys=True).encode())
    if mapper.check is not None:
        found.update(json.dumps(mapper.check.describe() | {"record": {}}, sort_keys=True).encode())
    for name, array in sorted(mapper.arrays().items()):
        found.update(f"{name}{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def save_state(path: str | Path, state: AdapterState, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a state.

    Raises:
        MetaMapError: the name does not end in .safetensors, or the file cannot be written.
    """
    save_arrays(path, arrays, {"format": _FORMAT, "state": json.dumps(asdict(state), sort_keys=True)})


def load_state(path: str | Path, mapper: Mapper) -> tuple[AdapterState, dict[str, NDArray[Any]]]:
    """Read what `save_state` wrote, fully checked.

    Raises:
        MetaMapError: not such a file, inconsistent content, or of another mapper.
    """
    arrays, metadata = load_arrays(path)
    found = metadata.get("format")
    if found not in (_FORMAT, _FLAT):
        raise MetaMapError(f"{path}: expected format {_FORMAT!r} or {_FLAT!r}, the file has {found!r}")
    try:
        document = json.loads(metadata["state"])
    except (KeyError, ValueError, RecursionError):
        raise MetaMapError(f"{path}: its description is damaged; start with a new adapter") from None
    if found == _FLAT:
        document = _with_records(document)
    state = parse(AdapterState, document, str(path))
    if state.mapper != mapper_id(mapper):
        raise MetaMapError(f"{path}: the state is of another mapper than the given one, of {mapper.family!r}")
    _check(arrays, mapper, state, str(path))
    return state, arrays


def _with_records(document: Any) -> Any:
    """Document of the former format, its verdict divided into the records of the last mapping and the last review."""
    if not isinstance(document, dict) or not isinstance(document.get("verdict"), dict):
        return document  # refused when parsed
    flat = dict(document["verdict"])
    moved = {"length": "mapped", "count": "mapped_at", "begin": "begin", "parameters": "parameters"}
    mapping = {new: flat.pop(old) for new, old in moved.items() if old in flat}
    return document | {"verdict": {"mapping": mapping, "review": flat}}


def _check(arrays: Mapping[str, NDArray[Any]], mapper: Mapper, state: AdapterState, what: str) -> None:
    """Validate shapes, types, ranges and relations of what was read.

    Raises:
        MetaMapError: the first that is wrong.
    """
    spec, config = mapper.base.spec, state.config
    held = min(state.count, config.longest_window)
    sizes = (spec.observation_size, spec.action_size, spec.observation_size, spec.action_size, spec.size)
    shapes: dict[str, tuple[int, ...]] = {"rows": (held, mapper.feature_size), "steps": (held,)}
    shapes |= {"phi": (spec.size,)}
    shapes |= {name: (size,) for name, size in zip(OPTIONAL, sizes, strict=True) if name in arrays}
    check_arrays(arrays, shapes, what)
    for name, array in arrays.items():
        if array.dtype != (np.int64 if name == "steps" else np.float32):
            raise MetaMapError(f"{what}: {name}: unexpected type {array.dtype}")
        if name != "observation" and not np.isfinite(array).all():  # a lost observation is NaN
            raise MetaMapError(f"{what}: {name} holds values that are not finite")
    if ("pending_observation" in arrays) != ("pending_action" in arrays):
        raise MetaMapError(f"{what}: expected both of pending_observation and pending_action, or none")
    mapping, review = state.verdict.mapping, state.verdict.review
    counts = {
        "begin": state.begin,
        "given_up": state.given_up,
        "rescued": state.rescued,
        "verdict.mapping.begin": mapping.begin,
    }
    counts |= {"verdict.mapping.count": mapping.count, "verdict.review.count": review.count}
    for name, number in counts.items():
        if number > state.count:
            raise MetaMapError(f"{what}: {name}: expected no more than count, {state.count}, got {number}")
    if state.blended > config.blend:
        raise MetaMapError(f"{what}: blended: expected no more than blend, {config.blend}, got {state.blended}")
    steps = arrays["steps"]
    if held and not (steps[0] > 0 and steps[-1] <= state.step and (np.diff(steps) > 0).all()):
        raise MetaMapError(f"{what}: steps: expected ascending numbers from 1 to step, {state.step}")
