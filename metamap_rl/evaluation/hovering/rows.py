"""Windows of a flight: accelerations, and actions through low-pass filters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._quadrotor import GRAVITY

__all__ = ["FEATURES", "WINDOW", "Rows"]

WINDOW = 150
"""Transitions of a window: 1.5 s."""
_CONSTANTS = np.array([0.03, 0.06, 0.12, 0.25, 0.8])  # s, of the filters
_SECONDS = 0.01  # of a step
_LARGEST = 5.0  # of a feature
FEATURES = 22 + 4 * len(_CONSTANTS)
"""Numbers in a row."""


class Rows:
    """The latest transitions of N vehicles.

    Args:
        count: N.
    """

    def __init__(self, count: int) -> None:
        self._filtered = np.zeros((count, len(_CONSTANTS), 4))
        self.window = np.zeros((count, WINDOW, FEATURES), dtype=np.float32)
        """Rows [N, `WINDOW`, `FEATURES`], the latest last; 0 where there are none."""

    def start(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """Begin episodes of some vehicles: the last action is what filters hold. Windows stay."""
        self._filtered[where] = observations[where, None, 18:]

    def add(
        self, before: NDArray[Any], actions: NDArray[Any], after: NDArray[Any], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Append a transition where it is valid; returns the rows [N, `FEATURES`] of all."""
        old, new = (np.where(valid[:, None], one, before).astype(np.float64) for one in (before, after))
        kept = np.exp(-_SECONDS / _CONSTANTS)[:, None]
        self._filtered = self._filtered * kept + (1.0 - kept) * actions.astype(np.float64)[:, None]
        rotations = 0.5 * (old[:, 3:12] + new[:, 3:12]).reshape(-1, 3, 3)
        pull = (new[:, 12:15] - old[:, 12:15]) / _SECONDS / GRAVITY + np.eye(3)[2]
        turn, rates = (new[:, 15:18] - old[:, 15:18]) / _SECONDS, 0.5 * (old[:, 15:18] + new[:, 15:18])
        parts = [
            pull,
            np.einsum("nij,ni->nj", rotations, pull),
            np.arcsinh(turn / 10.0) / 2.0,
            turn / 150.0,
            rates / 5.0,
            rotations[:, :, 2],
            actions,
            self._filtered.reshape(len(old), -1),
        ]
        rows: NDArray[np.float32] = np.clip(np.concatenate(parts, axis=1), -_LARGEST, _LARGEST).astype(np.float32)
        self.window[valid] = np.concatenate([self.window[valid, 1:], rows[valid, None]], axis=1)
        return rows
