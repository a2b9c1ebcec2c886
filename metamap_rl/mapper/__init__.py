"""The mapper: network, config, artifact, self-check.

Names are imported on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Mapper", "MapperConfig", "SelfCheck", "Verdict"]

_HOME = {"Mapper": "mapper", "MapperConfig": "config", "SelfCheck": "selfcheck", "Verdict": "selfcheck"}


def __getattr__(name: str) -> Any:
    """Import a name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
