"""Methods of adaptation: `base` defines the interface, the other modules the methods."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns

__all__ = ["METHODS", "Method", "MethodResult", "MethodReturns"]

load_modules(sys.modules[__name__])
