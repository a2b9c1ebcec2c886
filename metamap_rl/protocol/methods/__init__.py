"""Methods of adaptation under the protocol: `base` says what one is, every other module holds some."""

from __future__ import annotations

import sys

from metamap_rl.protocol.methods.base import METHODS, Measured, Method, Scored
from metamap_rl.registry import load_modules

__all__ = ["METHODS", "Measured", "Method", "Scored"]

load_modules(sys.modules[__name__])
