"""Encoders, D to z: the Protocol is in `base`, every other module holds one encoder."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.encoders.base import ENCODERS, Encoder, EncoderFactory

__all__ = ["ENCODERS", "Encoder", "EncoderFactory"]

load_modules(sys.modules[__name__])
