"""MAML's sinusoids (Finn et al. 2017, section 5.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.evaluation.baselines.adaptation import squared_error
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.base import FUNCTIONS

__all__ = ["Sinusoid"]


@FUNCTIONS.register("sinusoid")
@dataclass(frozen=True)
class Sinusoid:
    """``y = a sin(x - p)`` with amplitude a in U[.1, 5], phase p in U[0, pi], x in U[-5, 5], without noise.

    Five points at different x determine a and p exactly, since ``y`` is linear in ``a cos p`` and ``a sin p``.
    """

    name: str = "sinusoid"
    spec: PolicySpec = field(default_factory=lambda: PolicySpec(1, 1, hidden=(40, 40), activation="relu"))
    score_name: str = "mean squared error"
    ways: ClassVar[int] = 0
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    domain: tuple[float, float] = (-5.0, 5.0)

    def draw(
        self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str = "train"
    ) -> FewShotBatch:
        """See `metamap_rl.functions.base.FunctionFamily`; the splits are one distribution."""

        def uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
            return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(*shape, generator=generator)

        amplitude, phase = uniform(self.amplitude, tasks, 1, 1), uniform(self.phase, tasks, 1, 1)
        x = uniform(self.domain, tasks, points + queries, 1)
        y = amplitude * (x - phase).sin()
        return FewShotBatch(x[:, :points], y[:, :points], x[:, points:], y[:, points:])

    def prior_mean(self, x: Tensor) -> Tensor:
        """Return the mean over all tasks at x, the best prediction without D: ``-(2 / pi) E[a] cos x``."""
        low, high = self.amplitude
        return -(low + high) / 2 * 2 / math.pi * x.cos()

    def features(self, episodes: FewShotBatch) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return episodes.rows

    def solve(self, episodes: FewShotBatch) -> None:
        """There is no closed form for the weights."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return squared_error(outputs, targets)
