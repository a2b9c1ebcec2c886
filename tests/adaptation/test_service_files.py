"""The adapter in service: bounded memory, and its state on disk."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import resource
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.service import ACTIONS, OBSERVATIONS, served, service_check, service_mapper, stream
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs import MetaMapError
from metamap_rl import Adapter
from metamap_rl.adaptation.service import AdapterConfig
from metamap_rl.mapper.mapper import Mapper

QUICK = AdapterConfig(longest_window=30)


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


def _held_after(adapter: Adapter, steps: int) -> tuple[int, int]:
    """Python's memory blocks, and the peak of the process in KiB, after a stretch of service."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(64, OBSERVATIONS)).astype(np.float32)
    for step in range(steps):
        adapter.act(observations[step % 64])
        adapter.observe(float(step // 60 % 2), observations[(step + 1) % 64])
    gc.collect()
    return sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reachable(root: object) -> int:
    """Objects that an object holds, at any depth; modules, classes and functions are not counted nor entered."""
    found, pending = {id(root)}, [root]
    while pending:
        for referent in gc.get_referents(pending.pop()):
            if id(referent) not in found and not isinstance(referent, (types.ModuleType, type, types.FunctionType)):
                found.add(id(referent))
                pending.append(referent)
    return len(found)


def test_memory_is_bounded(mapper: Mapper) -> None:
    adapter = Adapter(mapper, QUICK)
    held = []
    for _ in range(4):
        _held_after(adapter, 80)
        held.append(_reachable(adapter))
    assert max(held[1:]) - min(held[1:]) < 40, "an object in two steps that is kept would show"


@pytest.mark.slow
def test_memory_is_bounded_over_a_long_time(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    (blocks, peak), (blocks_after, peak_after) = (_held_after(adapter, steps) for steps in (5_000, 95_000))
    assert blocks_after - blocks < 1_000
    assert peak_after - peak < 4_000, "a row kept of each step would be more"


@pytest.mark.parametrize("at", [0, 3, 21, 22, 75])
def test_saved_and_loaded_in_mid_run_it_goes_on_to_the_bit(mapper: Mapper, tmp_path: Path, at: int) -> None:
    config = AdapterConfig(longest_window=50, blend=4, rate_limit=(0.3,))
    steps = list(stream([-1.0] * 20 + [1.0] * 80))
    whole, half = Adapter(mapper, config), Adapter(mapper, config)
    expected = served(whole, steps)
    for adapter in (half,):
        served(adapter, steps[:at])
        if at:
            adapter.act(steps[at][0])  # in the middle of a step
    half.save(tmp_path / "state.safetensors")
    resumed = Adapter.load(tmp_path / "state.safetensors", mapper)
    assert resumed.belief == half.belief
    if at:
        resumed.observe(*steps[at][1:])
        half.observe(*steps[at][1:])
        rest = steps[at + 1 :]
    else:
        rest = steps
    found = served(resumed, rest)
    assert np.array_equal(found, expected[len(steps) - len(rest) :])
    assert resumed.belief == whole.belief
    resumed.save(tmp_path / "again.safetensors")
    whole.save(tmp_path / "whole.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_copy_goes_on_to_the_bit_by_itself(mapper: Mapper) -> None:
    adapter = Adapter(mapper, AdapterConfig(longest_window=30, blend=4))
    served(adapter, stream([-1.0] * 12))
    other = copy.deepcopy(adapter)
    rest = list(stream([1.0] * 25, seed=1))
    expected = served(adapter, rest)
    assert other.belief.window == 12
    assert np.array_equal(served(other, rest), expected)
    assert other.belief == adapter.belief


def test_a_state_of_the_former_format_is_loaded(mapper: Mapper, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    adapter = Adapter(mapper, AdapterConfig(longest_window=30, review=1))
    served(adapter, stream([-1.0] * 20))
    adapter.save(path)
    arrays, metadata = load_arrays(path)
    state = json.loads(metadata["state"])
    mapping, review = state["verdict"]["mapping"], state["verdict"]["review"]
    assert review["count"] > mapping["count"], "a review since the last mapping"
    mapped = {"mapped": mapping["length"], "mapped_at": mapping["count"]}
    state["verdict"] = review | mapped | {name: mapping[name] for name in ("begin", "parameters")}
    save_arrays(path, arrays, {"format": "metamap-adapter-1", "state": json.dumps(state)})
    former = Adapter.load(path, mapper)
    assert former.belief == adapter.belief
    rest = list(stream([1.0] * 30, seed=1))
    assert np.array_equal(served(former, rest), served(adapter, rest))
    assert former.belief == adapter.belief
    del state["verdict"]["mapped"], state["verdict"]["count"]
    state["verdict"]["counted"] = 3
    save_arrays(path, arrays, {"format": "metamap-adapter-1", "state": json.dumps(state)})
    with pytest.raises(MetaMapError, match="counted"):
        Adapter.load(path, mapper)


def test_a_damaged_state_is_reported(mapper: Mapper, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    adapter = Adapter(mapper)
    served(adapter, stream([-1.0] * 20))
    adapter.save(path)
    arrays, metadata = load_arrays(path)
    state = json.loads(metadata["state"])

    def refused(message: str, arrays: dict[str, Any] = arrays, **changes: Any) -> None:
        text = json.dumps({**state, **changes})
        save_arrays(path, arrays, {"format": "metamap-adapter-2", "state": text})
        with pytest.raises(MetaMapError, match=message):
            Adapter.load(path, mapper)

    refused("rows", {name: array for name, array in arrays.items() if name != "rows"})
    refused("rows", arrays | {"rows": np.full_like(arrays["rows"], np.nan)})
    refused("phi", arrays | {"phi": arrays["phi"].astype(np.float64)})
    refused("phi", arrays | {"phi": arrays["phi"][:-1]})
    refused("extra", arrays | {"extra": arrays["phi"]})
    refused("pending", arrays | {"pending_action": np.zeros(ACTIONS, np.float32)})
    refused("steps", arrays | {"steps": arrays["steps"][::-1].copy()})
    refused("begin", begin=21)
    refused("count", count=-1)
    for part, name in (("mapping", "count"), ("mapping", "begin"), ("review", "count")):
        verdict = state["verdict"]
        refused(rf"{part}\.{name}", verdict=verdict | {part: verdict[part] | {name: 21}})
        refused(rf"{part}\.{name}", verdict=verdict | {part: verdict[part] | {name: -1}})
    refused("blended", blended=1)
    refused("stepp", stepp=3)
    refused("another mapper", mapper="0" * 64)
    save_arrays(path, arrays, {"format": "metamap-adapter-2", "state": "{"})
    with pytest.raises(MetaMapError, match="damaged"):
        Adapter.load(path, mapper)
    save_arrays(path, arrays, {"format": "other", "state": "{}"})
    with pytest.raises(MetaMapError, match="format"):
        Adapter.load(path, mapper)
    other = service_mapper()
    other.check = dataclasses.replace(service_check(), noise=0.2)
    adapter.save(path)
    with pytest.raises(MetaMapError, match="another mapper"):
        Adapter.load(path, other)
