"""Probes, how D is collected: `base` says what one is, the other modules hold the kinds."""

from __future__ import annotations

import sys

from metamap_rl.probes.base import PROBES, Plan, Probe, SteeredProbe, Steering
from metamap_rl.registry import load_modules

__all__ = ["PROBES", "Plan", "Probe", "SteeredProbe", "Steering"]

load_modules(sys.modules[__name__])
