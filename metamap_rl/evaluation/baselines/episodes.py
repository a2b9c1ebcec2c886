"""Few-shot episodes: support and query points of a batch of function regression tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_envs.errors import MetaMapError

__all__ = ["FewShotBatch"]


@dataclass(frozen=True, eq=False)
class FewShotBatch:
    """B tasks, each with K support points (D) and S query points.

    Raises:
        MetaMapError: inconsistent shapes.
    """

    support_inputs: Tensor
    """Support inputs [B, K, I]."""
    support_targets: Tensor
    """Observed support outputs [B, K, A]."""
    inputs: Tensor
    """Query inputs [B, S, I]."""
    targets: Tensor
    """True query outputs [B, S, A]."""

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

    def shots(self, count: int) -> FewShotBatch:
        """Return the same tasks with the first ``count`` points of D only."""
        return FewShotBatch(self.support_inputs[:, :count], self.support_targets[:, :count], self.inputs, self.targets)
