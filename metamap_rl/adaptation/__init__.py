"""Adaptation of a policy to a new environment, and the bundled mappers.

Names are imported on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Adaptation",
    "AdaptedPolicy",
    "adapt",
    "bundled_families",
    "find_mapper",
    "load_mapper",
    "measure_in_env",
    "measure_on_task",
]

_HOME = {
    "Adaptation": "one_shot",
    "AdaptedPolicy": "one_shot",
    "adapt": "one_shot",
    "bundled_families": "bundled",
    "find_mapper": "bundled",
    "load_mapper": "bundled",
    "measure_in_env": "one_shot",
    "measure_on_task": "one_shot",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
