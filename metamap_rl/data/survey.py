"""Surveys: rollouts of tasks without experts, from which the encoder learns to distinguish tasks.

An expert takes minutes, a rollout milliseconds. A few dozen pairs (D, phi*) are too few to learn to identify a task;
thousands of rollouts with the coordinates of their tasks are enough. As in RMA (Kumar et al. 2021) the coordinates are
known in training only: at deployment D is the only input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import draw_windows

__all__ = ["Survey"]


@dataclass(frozen=True, eq=False)
class Survey:
    """Rollouts of U tasks and the tasks' coordinates, float32.

    Raises:
        MetaMapError: the shapes do not fit together, or there is no task or no coordinate.
    """

    features: Tensor
    """R rollouts of n feature rows each [U, R, n, F], not standardised."""
    coordinates: Tensor
    """Coordinates of the tasks, standardised [U, K]."""
    names: tuple[str, ...]
    """Names of the K coordinates."""
    newest: Tensor | None = None
    """Index of the first row of each rollout that is of the task [U, R], as in `Examples`."""

    def __post_init__(self) -> None:
        expected = (len(self.features), len(self.names))
        if self.features.ndim != 4 or tuple(self.coordinates.shape) != expected or 0 in expected:
            raise MetaMapError(
                f"survey: expected features [U, R, n, F] and coordinates [U, K] with K = {len(self.names)} names, "
                f"got {tuple(self.features.shape)} and {tuple(self.coordinates.shape)}"
            )
        if self.newest is not None and self.newest.shape != self.features.shape[:2]:
            raise MetaMapError(
                f"survey: newest: expected {tuple(self.features.shape[:2])}, got {tuple(self.newest.shape)}"
            )

    def __len__(self) -> int:
        """Number of tasks U."""
        return len(self.features)

    def sample(
        self, generator: torch.Generator, *, tasks: int, length: int, from_start: float
    ) -> tuple[Tensor, Tensor]:
        """Draw D [B, k, F] and coordinates [B, K] of B tasks, with replacement; else as `Examples.sample`."""
        chosen = torch.randint(len(self), (min(tasks, len(self)),), generator=generator)
        window = draw_windows(
            self.features, chosen, generator, length=length, from_start=from_start, newest=self.newest
        )
        return self.features[window], self.coordinates[chosen]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Features and coordinates by name, and changes of the task if there are any."""
        newest = {} if self.newest is None else {"newest": self.newest.numpy()}
        return {"features": self.features.numpy(), "coordinates": self.coordinates.numpy(), **newest}
