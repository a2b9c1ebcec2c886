"""Few-shot episodes: what any learner of functions sees of a batch of tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_envs.errors import MetaMapError

__all__ = ["Episodes"]


@dataclass(frozen=True, eq=False)
class Episodes:
    """B tasks, each with K points to adapt to and S points to be judged on.

    Raises:
        MetaMapError: the shapes do not fit together.
    """

    support_inputs: Tensor
    """D's inputs [B, K, I]."""
    support_targets: Tensor
    """D's outputs [B, K, A], as they were observed."""
    inputs: Tensor
    """Inputs to be judged on [B, S, I], not those of D."""
    targets: Tensor
    """What the outputs should be there [B, S, A]."""

    def __post_init__(self) -> None:
        lead, (inputs, outputs) = len(self.inputs), (self.inputs.shape[-1], self.targets.shape[-1])
        points, queries = self.support_inputs.shape[1:2], self.inputs.shape[1:2]
        expected = {
            "support_inputs": (lead, *points, inputs),
            "support_targets": (lead, *points, outputs),
            "inputs": (lead, *queries, inputs),
            "targets": (lead, *queries, outputs),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise MetaMapError(f"episodes: {name}: expected {shape}, got {tuple(getattr(self, name).shape)}")

    def __len__(self) -> int:
        """Number of tasks B."""
        return len(self.inputs)

    @property
    def rows(self) -> Tensor:
        """D as rows (input, output), [B, K, I + A]."""
        return torch.cat([self.support_inputs, self.support_targets], dim=-1)

    def shots(self, count: int) -> Episodes:
        """Return the same tasks with the first ``count`` points of D only."""
        return Episodes(self.support_inputs[:, :count], self.support_targets[:, :count], self.inputs, self.targets)
