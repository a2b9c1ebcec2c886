"""Methods of adaptation under the protocol: `base` says what one is, every other module holds some."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.evaluation.protocol.methods.base import METHODS, Measured, Method, Scored

__all__ = ["METHODS", "Measured", "Method", "Scored"]

load_modules(sys.modules[__name__])
