"""Linear regression, for which the best map from D to weights is known: ridge regression."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.evaluation.baselines.adaptation import squared_error
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.base import FUNCTIONS

__all__ = ["LinearRegression", "ridge"]


def ridge(inputs: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Return ``argmin_w sum_k (y_k - w.(x_k, 1))^2 + penalty |w|^2`` of each task, the bias included in w.

    Args:
        inputs: x [B, K, I].
        targets: y [B, K, A].
        penalty: 0 for ordinary least squares (of least norm where there are fewer points than weights).

    Returns:
        [B, A, I + 1], the bias last.
    """
    rows = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1).double()
    if penalty == 0:
        solution: Tensor = torch.linalg.pinv(rows) @ targets.double()
    else:
        gram = rows.mT @ rows + penalty * torch.eye(rows.shape[-1], dtype=torch.float64)
        solution = torch.linalg.solve(gram, rows.mT @ targets.double())
    return solution.mT.to(inputs.dtype)


@FUNCTIONS.register("linear")
@dataclass(frozen=True)
class LinearRegression:
    """``y = w.x + b + e`` with x, w and b standard normal and noise e of standard deviation ``noise`` in D.

    Evaluation targets are without noise, so an error is the excess over the irreducible one. phi* is the posterior
    mean of (w, b), ridge regression with penalty noise^2, the best possible estimate.
    """

    name: str = "linear"
    spec: PolicySpec = field(default_factory=lambda: PolicySpec(4, 1, hidden=()))
    score_name: str = "mean squared error without noise"
    ways: ClassVar[int] = 0
    noise: float = 0.3

    def draw(
        self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str = "train"
    ) -> FewShotBatch:
        """See `metamap_rl.functions.base.FunctionFamily`; the splits are one distribution."""
        size = self.spec.observation_size
        w = torch.randn(tasks, size, 1, generator=generator)
        b = torch.randn(tasks, 1, 1, generator=generator)
        x = torch.randn(tasks, points + queries, size, generator=generator)
        y = x @ w + b
        noise = self.noise * torch.randn(tasks, points, 1, generator=generator)
        return FewShotBatch(x[:, :points], y[:, :points] + noise, x[:, points:], y[:, points:])

    def features(self, episodes: FewShotBatch) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return episodes.rows

    def solve(self, episodes: FewShotBatch, penalty: float | None = None) -> Tensor:
        """Return phi* [B, P], the posterior mean; ``penalty`` replaces noise^2, 0 gives ordinary least squares."""
        strength = self.noise**2 if penalty is None else penalty
        return ridge(episodes.support_inputs, episodes.support_targets, strength).squeeze(1)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return squared_error(outputs, targets)
