"""An expert: a policy trained on one task, with its returns and those of phi_0."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.evaluation import clearly_better
from metamap_envs.task import Task

__all__ = ["Expert"]


@dataclass(frozen=True)
class Expert:
    """A policy trained on one task.

    Attributes:
        task: the task.
        phi: phi*, float32 [P], on normalised observations.
        returns: returns of phi*, float64 [E], on the evaluation seeds.
        base_returns: returns of phi_0 on the same seeds, float64 [E].
        record: how it was trained, as plain JSON values.
    """

    task: Task
    phi: NDArray[np.float32]
    returns: NDArray[np.float64]
    base_returns: NDArray[np.float64]
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def better(self) -> bool:
        """Whether it is clearly better than the base policy; see `metamap_agents.policy.evaluation.clearly_better`."""
        return clearly_better(self.returns, self.base_returns)
