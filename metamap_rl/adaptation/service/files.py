"""The state of an adapter on disk: one ``.safetensors`` file, with a JSON document in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.runtime.storage import check_arrays, load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import STRICT, parse
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.mapping import ServiceVerdict
from metamap_rl.adaptation.service.serving import ServedPolicy
from metamap_rl.mapper.mapper import Mapper

if TYPE_CHECKING:
    from metamap_rl.adaptation.service.adapter import Adapter

__all__ = ["load_adapter", "mapper_id", "save_adapter"]

Made = TypeVar("Made", bound="Adapter")

_FORMAT = "metamap-adapter-1"
_OPTIONAL = ("observation", "last_action", "pending_observation", "pending_action", "previous")

_Count = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class _State:
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


def mapper_id(mapper: Mapper) -> str:
    """Fingerprint of a mapper: family, shape, theta, base policy and self-check."""
    found = hashlib.sha256(json.dumps([mapper.family, asdict(mapper.config)], sort_keys=True).encode())
    if mapper.check is not None:
        found.update(json.dumps(mapper.check.describe() | {"record": {}}, sort_keys=True).encode())
    for name, array in sorted(mapper.arrays().items()):
        found.update(f"{name}{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def save_adapter(adapter: Adapter, path: str | Path) -> None:
    """See `Adapter.save`."""
    window, previous = adapter._window, adapter._previous
    held = len(window.history)
    state = {
        "mapper": mapper_id(adapter.mapper),
        "config": asdict(adapter.config),
        "verdict": asdict(adapter._verdict),
        "hold": bool(adapter.hold),
        "generated": adapter._served.generated,
        "previous_generated": previous is not None and previous.generated,
        "blended": adapter._blended,
        "step": adapter._step,
        "swaps": adapter._swaps,
        "lost": adapter._lost,
        "count": window.count,
        "begin": window.begin,
        "changes": window.changes,
    }
    pending = adapter._pending or (None, None)
    values = (adapter._observation, adapter._last_action, *pending, None if previous is None else previous.phi)
    arrays = {name: value for name, value in zip(_OPTIONAL, values, strict=True) if value is not None}
    arrays |= {"rows": window.history.latest(held), "steps": window.history.steps(held), "phi": adapter._served.phi}
    save_arrays(path, arrays, {"format": _FORMAT, "state": json.dumps(state, sort_keys=True)})


def load_adapter(kind: type[Made], path: str | Path, mapper: Mapper | str | Path) -> Made:
    """See `Adapter.load`."""
    arrays, metadata = load_arrays(path)
    if metadata.get("format") != _FORMAT:
        raise MetaMapError(f"{path}: expected format {_FORMAT!r}, the file has {metadata.get('format')!r}")
    try:
        document = json.loads(metadata["state"])
    except (KeyError, ValueError, RecursionError):
        raise MetaMapError(f"{path}: its description is damaged; start with a new adapter") from None
    state = parse(_State, document, str(path))
    adapter = kind(mapper, state.config)
    if state.mapper != mapper_id(adapter.mapper):
        raise MetaMapError(f"{path}: the state is of another mapper than the given one, of {adapter.mapper.family!r}")
    _check(arrays, adapter, state, str(path))
    _restore(adapter, state, arrays)
    return adapter


def _check(arrays: Mapping[str, NDArray[Any]], adapter: Adapter, state: _State, what: str) -> None:
    """Validate shapes, types, ranges and relations of what was read.

    Raises:
        MetaMapError: the first that is wrong.
    """
    spec, config = adapter.mapper.base.spec, adapter.config
    held = min(state.count, config.longest_window)
    sizes = (spec.observation_size, spec.action_size, spec.observation_size, spec.action_size, spec.size)
    shapes: dict[str, tuple[int, ...]] = {"rows": (held, adapter.mapper.feature_size), "steps": (held,)}
    shapes |= {"phi": (spec.size,)}
    shapes |= {name: (size,) for name, size in zip(_OPTIONAL, sizes, strict=True) if name in arrays}
    check_arrays(arrays, shapes, what)
    for name, array in arrays.items():
        if array.dtype != (np.int64 if name == "steps" else np.float32):
            raise MetaMapError(f"{what}: {name}: unexpected type {array.dtype}")
        if name != "observation" and not np.isfinite(array).all():  # a lost observation is NaN
            raise MetaMapError(f"{what}: {name} holds values that are not finite")
    if ("pending_observation" in arrays) != ("pending_action" in arrays):
        raise MetaMapError(f"{what}: expected both of pending_observation and pending_action, or none")
    if state.begin > state.count or state.verdict.count > state.count or state.blended > config.blend:
        raise MetaMapError(f"{what}: begin, verdict.count and blended: expected no more than count, count and blend")
    steps = arrays["steps"]
    if held and not (steps[0] > 0 and steps[-1] <= state.step and (np.diff(steps) > 0).all()):
        raise MetaMapError(f"{what}: steps: expected ascending numbers from 1 to step, {state.step}")


def _restore(adapter: Adapter, state: _State, arrays: Mapping[str, NDArray[Any]]) -> None:
    base = adapter.mapper.base
    adapter.hold, adapter._verdict = state.hold, state.verdict
    adapter._step, adapter._swaps, adapter._lost = state.step, state.swaps, state.lost
    adapter._blended = state.blended
    window = adapter._window
    window.history.restore(arrays["rows"], arrays["steps"], state.count)
    window.begin, window.changes = state.begin, state.changes
    if state.generated:
        adapter._served = ServedPolicy(base, arrays["phi"], generated=True)
    adapter._observation, adapter._last_action = arrays.get("observation"), arrays.get("last_action")
    if "pending_observation" in arrays:
        adapter._pending = arrays["pending_observation"], arrays["pending_action"]
    if "previous" in arrays:
        adapter._previous = ServedPolicy(base, arrays["previous"], generated=state.previous_generated)
