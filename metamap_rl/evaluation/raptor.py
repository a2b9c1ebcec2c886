"""RAPTOR, the published policy for quadrotors of any size, as a rival.

Eschmann, Albani, Loianno, "RAPTOR: A Foundation Policy for Quadrotor Control", 2025: a GRU of 16 units between two
dense layers, 2,084 parameters, distilled from 1,000 experts. The package `foundation-policy` holds its weights and
evaluates it in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.common.extras import optional_module

__all__ = ["RaptorController"]


class RaptorController:
    """RAPTOR in N environments of a quadrotor family, whose observations and actions are its own.

    Raises:
        MetaMapError: the extra `raptor` is not installed.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(self) -> None:
        self._policy: Any = optional_module("foundation_policy", "raptor").Raptor()
        self._policy.reset()  # loading it runs an example

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; ignored."""

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`; the memory of these environments is that of a new episode."""
        for layer in self._policy.layers:
            if hasattr(layer, "initial_hidden_state"):
                fresh = np.tile(layer.initial_hidden_state, (len(where), 1))
                layer.state = fresh if layer.state is None else np.where(where[:, None], fresh, layer.state)

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        actions: NDArray[np.float32] = self._policy.evaluate_step(observations.astype(np.float32)).astype(np.float32)
        return actions

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`; it has no use for the outcome."""
