"""Learners of streams: `base` defines the interface, `gradient` the update loop, the other modules the learners."""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.stream.learners.base import (
    LEARNERS,
    KeepsNothing,
    MapperLearner,
    list_learners,
    make_learner,
)

__all__ = ["LEARNERS", "KeepsNothing", "MapperLearner", "list_learners", "make_learner"]

load_modules(sys.modules[__name__])
