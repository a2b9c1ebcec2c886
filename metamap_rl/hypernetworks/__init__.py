"""Hypernetworks, z to a change of weights: `base` says what one is, every other module holds one kind."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.hypernetworks.base import HYPERNETWORKS, Hypernetwork, HypernetworkFactory

__all__ = ["HYPERNETWORKS", "Hypernetwork", "HypernetworkFactory"]

load_modules(sys.modules[__name__])
