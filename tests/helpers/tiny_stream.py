"""A whole stream in seconds: real probes, experts and updates, with so few steps that nothing much is learnt."""

from __future__ import annotations

from typing import Any

from helpers import tiny
from metamap_rl.stream.config import StreamConfig, load_config

SETTINGS: dict[str, Any] = {
    "format": "metamap-stream-1",
    "name": "tiny",
    "stream": {"kind": "sequential", "family": tiny.FAMILY, "tasks": 4},
    "memory_bytes": 200_000,
    "probe_steps": 40,
    "probe_repeats": 2,
    "map_steps": 20,
    "update": {"updates": 4, "batch": 4, "states": 8},
    "mapper": {"context_size": 8, "encoder_hidden": 16, "hypernetwork_hidden": 16},
    "experts": {"overrides": tiny.SETTINGS, "base_overrides": tiny.SETTINGS},
    "serve": {"enabled": False, "episodes": 1},
    "evaluation": {"held_out": 1, "episodes": 1},
}


def tiny_config(**overrides: Any) -> StreamConfig:
    """The tiny stream with some settings replaced, by dotted key with "__" for the dot (``serve__enabled=False``)."""
    return load_config(SETTINGS, {key.replace("__", "."): value for key, value in overrides.items()})
