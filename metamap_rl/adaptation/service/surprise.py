"""Surprise of an adapter at every step, for display."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.torch_state import torch_threads
from metamap_rl.adaptation.service.adapter import Adapter
from metamap_rl.adaptation.service.evidence import LEAST_BEFORE, ChangeEvidence

__all__ = ["Surprise"]

_LATELY = 10  # steps


class Surprise:
    """Evidence that the task has just changed, as the adapter weighs it, but at every step.

    Args:
        adapter: in service.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._config = adapter.config
        check = adapter.mapper.check
        self._evidence = None if check is None else ChangeEvidence(adapter.mapper, check.surprise, adapter.config)

    @torch_threads(1)
    def __call__(self, known: NDArray[np.float32], now: NDArray[np.float32]) -> float | None:
        """Evidence in units of its margin; None without a self-check, or while the window is short.

        Args:
            known: the adapter's window before a step [n, F].
            now: its window after it.
        """
        rows = np.concatenate([known, now[-1:]])
        cuts = [cut for cut in self._config.cuts if cut <= _LATELY and cut + LEAST_BEFORE <= len(rows)]
        if self._evidence is None or not cuts:
            return None
        margins = self._config.margin + self._config.margin_per_transition * np.array(cuts)
        return max(0.0, float((self._evidence.gains(rows, cuts).max(axis=1) / margins).max()))
