"""Hypernetworks, z to a change of weights: the Protocol is in `base`, every other module holds one hypernetwork."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.hypernetworks.base import HYPERNETWORKS, Hypernetwork, HypernetworkFactory

__all__ = ["HYPERNETWORKS", "Hypernetwork", "HypernetworkFactory"]

load_modules(sys.modules[__name__])
