"""The latest transitions of a policy in service, in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["History"]

Floats = NDArray[np.float32]


class History:
    """Ring buffer of the latest C transitions, as standardised feature rows.

    Each row is stored twice, at positions i and i + C, so that every window is one contiguous view.

    Args:
        capacity: C.
        feature_size: F.
    """

    def __init__(self, capacity: int, feature_size: int) -> None:
        self.capacity = capacity
        self._rows = np.zeros((2 * capacity, feature_size), dtype=np.float32)
        self._steps = np.zeros(2 * capacity, dtype=np.int64)
        self.count = 0
        """Number of transitions stored so far, forgotten ones included."""

    def __len__(self) -> int:
        """Number of transitions held."""
        return min(self.count, self.capacity)

    def append(self, row: Floats, step: int) -> None:
        """Add a transition, forgetting the oldest if full.

        Args:
            row: [F].
            step: environment step at which it happened.
        """
        at = self.count % self.capacity
        for place in (at, at + self.capacity):
            self._rows[place], self._steps[place] = row, step
        self.count += 1

    def latest(self, length: int) -> Floats:
        """The latest rows [length, F], in order; a view that the next `append` may change."""
        return self._rows[self._slice(length)]

    def steps(self, length: int) -> NDArray[np.int64]:
        """Environment steps of the latest transitions [length], in order."""
        return self._steps[self._slice(length)]

    def _slice(self, length: int) -> slice:
        end = self.count if self.count <= self.capacity else self.capacity + self.count % self.capacity
        if self.count and self.count % self.capacity == 0:
            end = self.capacity
        return slice(end - length, end)

    def clear(self) -> None:
        """Forget everything."""
        self.count = 0

    def restore(self, rows: Floats, steps: NDArray[np.int64], count: int) -> None:
        """Set the content to n rows [n, F] with their steps [n], as if these were the latest of ``count``."""
        self.count = count - len(rows)
        for row, step in zip(rows, steps, strict=True):
            self.append(row, int(step))
