"""Families of functions: few-shot learning as a source of tasks for the same `training.loop.train` as control.

To add one, write a module in `metamap_rl.functions` with a class that has what :class:`FunctionFamily` says, and
register it with ``@FUNCTIONS.register("name")``. The tests run over the registry.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.common.registry import Registry
from metamap_rl.evaluation.baselines.episodes import Episodes

__all__ = ["FUNCTIONS", "FunctionFamily", "FunctionFamilyFactory"]


class FunctionFamily(Protocol):
    """A distribution over functions from I numbers to A numbers, and the network that stands for one of them."""

    # Properties, so that frozen dataclasses fit.
    @property
    def name(self) -> str:
        """As it is registered."""
        ...

    @property
    def spec(self) -> PolicySpec:
        """Shape of the generated network; its "observations" are the function's inputs, its "actions" the outputs."""
        ...

    @property
    def score_name(self) -> str:
        """What :meth:`score` is, with its unit."""
        ...

    def draw(self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str) -> Episodes:
        """Draw fresh tasks.

        Args:
            generator: source of every draw.
            tasks: B.
            points: K, the rows of D; for classification as many of each class.
            queries: S, the points to be judged on; for classification as many of each class.
            split: "train", "validation" or "test". Where tasks are a continuum, all splits are one distribution.
        """
        ...

    def features(self, episodes: Episodes) -> Tensor:
        """Return D as a mapper reads it [B, K, F]: `Episodes.rows`, perhaps with products of its columns."""
        ...

    def solve(self, episodes: Episodes) -> Tensor | None:
        """Return phi* [B, P] as a closed form gives it from each D; None for a family without one."""
        ...

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what is reported of each task [B], from outputs and targets [B, S, A]."""
        ...


class FunctionFamilyFactory(Protocol):
    """How a family is built: without arguments, in its standard form."""

    def __call__(self) -> FunctionFamily:
        """Build it."""
        ...


FUNCTIONS: Registry[FunctionFamilyFactory] = Registry("family of functions")
