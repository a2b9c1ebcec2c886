"""A benchmark that takes seconds."""

from __future__ import annotations

from typing import Any

from helpers import tiny
from helpers.tiny_stream import SETTINGS
from metamap_envs.settings import parse
from metamap_rl.bench.config import BenchConfig

BENCH: dict[str, Any] = {
    "format": "metamap-bench-1",
    "name": "tiny",
    "streams": {
        "reach": {
            "config": {
                **SETTINGS,
                "stream": {"kind": "cycles", "family": tiny.FAMILY, "tasks": 2, "repeats": 3},
                "experts": {**SETTINGS["experts"], "start": "phi-0"},
            },
            "set": {"evaluation.lengths": [5, 10]},
        }
    },
    "learners": {
        "replay": {},
        "a2c": {"sb3": "a2c", "steps": 400, "points": 2, "settings": {"n_envs": 4, "n_steps": 10}},
    },
}


def bench(**changes: Any) -> BenchConfig:
    return parse(BenchConfig, {**BENCH, **changes}, "test")
