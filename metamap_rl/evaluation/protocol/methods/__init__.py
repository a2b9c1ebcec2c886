"""Methods of adaptation: `base` defines the interface, the other modules the methods."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.evaluation.protocol.methods.base import METHODS, Measured, Method, Scored

__all__ = ["METHODS", "Measured", "Method", "Scored"]

load_modules(sys.modules[__name__])
