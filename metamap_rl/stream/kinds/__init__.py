"""Kinds of streams, registered in `STREAMS` on import."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.stream.kinds.base import STREAMS, Arrival, StreamKind, arrivals, revisits

__all__ = ["STREAMS", "Arrival", "StreamKind", "arrivals", "revisits"]

load_modules(sys.modules[__name__])
