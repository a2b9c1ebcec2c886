"""Names that have left `metamap_envs.family`, found there still for one release, with a warning."""

from __future__ import annotations

import warnings
from typing import Any

from metamap_envs import family, registry, state

__all__: list[str] = []

_HOMES = (registry, state)


def _find(name: str) -> Any:
    for home in _HOMES:
        if name in home.__all__:
            message = f"metamap_envs.family.{name} is now {home.__name__}.{name}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(home, name)
    raise AttributeError(f"module 'metamap_envs.family' has no attribute {name!r}")


vars(family)["__getattr__"] = _find
