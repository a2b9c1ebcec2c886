"""Kinds of streams, one module for each sort; importing the package files them all in `STREAMS`."""

from __future__ import annotations

import importlib
import pkgutil

from metamap_rl.stream.kinds.base import STREAMS, Arrival, StreamKind, arrivals, revisits

__all__ = ["STREAMS", "Arrival", "StreamKind", "arrivals", "revisits"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
