"""Learning-rate schedule of training and of updates in a stream."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(update: int, updates: int, *, warmup: int, highest: float) -> float:
    """Learning rate of an update, counted from 0: linear warm-up, then cosine decay to 0."""
    warmup = min(warmup, updates)
    if update < warmup:
        return highest * (update + 1) / (warmup + 1)
    progress = (update - warmup) / max(1, updates - warmup)
    return highest * 0.5 * (1.0 + math.cos(math.pi * progress))
