"""Surveys: rollouts of tasks without experts, from which the encoder learns to distinguish tasks.

An expert takes minutes, a rollout milliseconds. A few dozen pairs (D, phi*) are too few to learn to identify a task;
thousands of rollouts with the coordinates of their tasks are enough. As in RMA (Kumar et al. 2021) the coordinates are
known in training only: at deployment D is the only input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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

    def __post_init__(self) -> None:
        expected = (len(self.features), len(self.names))
        if self.features.ndim != 4 or tuple(self.coordinates.shape) != expected or 0 in expected:
            raise MetaMapError(
                f"survey: expected features [U, R, n, F] and coordinates [U, K] with K = {len(self.names)} names, "
                f"got {tuple(self.features.shape)} and {tuple(self.coordinates.shape)}"
            )

    def __len__(self) -> int:
        """Number of tasks U."""
        return len(self.features)

    def sample(
        self, generator: torch.Generator, *, tasks: int, length: int, from_start: float
    ) -> tuple[Tensor, Tensor]:
        """Draw D [B, k, F] and coordinates [B, K] of B tasks, with replacement; else as `Examples.sample`."""
        chosen = torch.randint(len(self), (min(tasks, len(self)),), generator=generator)
        window = draw_windows(self.features, chosen, generator, length=length, from_start=from_start)
        return self.features[window], self.coordinates[chosen]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Features and coordinates by name."""
        return {"features": self.features.numpy(), "coordinates": self.coordinates.numpy()}
