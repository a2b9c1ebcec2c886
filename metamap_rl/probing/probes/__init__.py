"""Probes, the rules by which D is collected: the Protocol is in `base`, the other modules hold the kinds."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.probing.probes.base import PROBES, Plan, Probe, SteeredProbe, Steering

__all__ = ["PROBES", "Plan", "Probe", "SteeredProbe", "Steering"]

load_modules(sys.modules[__name__])
