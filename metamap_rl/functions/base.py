"""Families of functions: few-shot learning as a source of tasks for the same `training.loop.train` as control.

To add one, write a module in `metamap_rl.functions` with a class that implements :class:`FunctionFamily`, and
register it with ``@FUNCTIONS.register("name")``. The tests run over the registry.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.common.registry import Registry
from metamap_rl.evaluation.baselines.episodes import FewShotBatch

__all__ = ["FUNCTIONS", "FunctionFamily", "FunctionFamilyFactory"]


class FunctionFamily(Protocol):
    """A distribution over functions from I numbers to A numbers, and the shape of the network that approximates one."""

    # Properties, so that frozen dataclasses fit.
    @property
    def name(self) -> str:
        """Registered name."""
        ...

    @property
    def spec(self) -> PolicySpec:
        """Shape of the generated network; its "observations" are the function's inputs, its "actions" the outputs."""
        ...

    @property
    def score_name(self) -> str:
        """Name of :meth:`score`, with its unit."""
        ...

    @property
    def ways(self) -> int:
        """Largest number of classes of a task, one column of the targets each; 0 for regression."""
        ...

    def draw(self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str) -> FewShotBatch:
        """Draw fresh tasks.

        Args:
            generator: source of every draw.
            tasks: B.
            points: K, the rows of D; for classification as many of each class.
            queries: S, evaluation points; for classification as many of each class.
            split: "train", "validation" or "test". Where tasks are a continuum, all splits are one distribution.
        """
        ...

    def features(self, episodes: FewShotBatch) -> Tensor:
        """Return the feature rows of D [B, K, F]: `FewShotBatch.rows`, optionally with products of its columns."""
        ...

    def solve(self, episodes: FewShotBatch) -> Tensor | None:
        """Return the closed form of phi* [B, P] for each D; None for a family without one."""
        ...

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each task [B], from outputs and targets [B, S, A]."""
        ...


class FunctionFamilyFactory(Protocol):
    """Constructor of a family in its standard form, without arguments."""

    def __call__(self) -> FunctionFamily:
        """Build it."""
        ...


FUNCTIONS: Registry[FunctionFamilyFactory] = Registry("family of functions")
