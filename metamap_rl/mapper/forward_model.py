"""A forward model that is linear in unknowns of the task, and its inversion by least squares.

An encoder that learns to read a task from D has as many examples as there are tasks; a model that predicts outcomes
from the task has as many as there are transitions. Its inversion reads the task from D without having learned to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metamap_rl.data.layout import TransitionLayout
from metamap_rl.encoders.base import Encoder
from metamap_rl.encoders.parts import bounded_head, kept_rows, window_shares, windows_of

__all__ = ["ForwardModel", "InformedEncoder", "solve", "solve_step_by_step"]

LARGEST_OUTCOME = 10.0
"""Outcomes are clipped to this many standard deviations."""

LOG_SCALES = (-4.0, 2.0)
"""Smallest and largest logarithm of the standard deviation of an outcome's error."""

INDEPENDENT = 30.0
"""Errors of the model on the rows of one D are alike: n rows weigh as much as n / (1 + n / INDEPENDENT) independent
ones, so never more than this."""


def solve(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solution [B, L] of ``matrix x = right``, [B, L, L] and [B, L, 1], and the Cholesky factor's diagonal [B, L]."""
    factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(right, factor).squeeze(-1), factor.diagonal(dim1=1, dim2=2)


def solve_step_by_step(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`solve`, of products, quotients and roots alone: for graphs of formats without a factorisation."""
    columns: list[Tensor] = []
    diagonal: list[Tensor] = []
    forward: list[Tensor] = []
    for index in range(matrix.shape[-1]):
        root = matrix[:, index, index].sqrt()
        below = (torch.arange(matrix.shape[-1], device=matrix.device) > index).to(matrix.dtype)
        column = matrix[:, :, index] / root[:, None] * below
        matrix = matrix - column[:, :, None] * column[:, None, :]
        forward.append(right[:, index, 0] / root)
        right = right - (column * forward[-1][:, None])[:, :, None]
        columns.append(column)
        diagonal.append(root)
    found: list[Tensor] = []
    for index in reversed(range(len(columns))):
        later = [columns[index][:, index + 1 + other] * value for other, value in enumerate(found)]
        found.insert(0, (forward[index] - sum(later, torch.zeros_like(forward[index]))) / diagonal[index])
    return torch.stack(found, dim=-1), torch.stack(diagonal, dim=-1)


class ForwardModel(nn.Module):
    """``y = b(x) + F(x) u + e``, with outcome y (reward and change of the observation), x observation and action.

    u [L] stands for the task, with prior N(0, I); e = s(x) times Gaussian noise of a fixed covariance: contacts are
    predicted worse. Given D, the posterior of u is that of Bayesian linear regression:
    ``A = I + w sum_t F_t' S_t^-1 F_t`` and ``u = A^-1 w sum_t F_t' S_t^-1 (y_t - b_t)``.
    Where the errors left are larger than e says, as with noisy observations, w is divided by their mean square.
    Networks and covariance are fitted by `metamap_rl.training.forward_fit` and then fixed.

    Args:
        layout: of the feature rows.
        unknowns: L.
        hidden: width of the network's hidden layers.
        reward: whether the reward is an outcome.
    """

    shift: Tensor
    mix: Tensor
    whiten: Tensor

    def __init__(self, layout: TransitionLayout, unknowns: int, hidden: int, *, reward: bool) -> None:
        super().__init__()
        self.size = unknowns
        self.given = layout.outcome.start  # observation, action and |action|^2 come first
        self.first = self.given + (not reward)
        self.solve = solve
        outcomes = layout.size - self.first
        self.network = nn.Sequential(
            nn.Linear(self.given, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, outcomes * (unknowns + 2)),
        )
        # u = shift + mix (u in units of the prior); whiten' whiten is the inverse covariance of e / s(x).
        self.register_buffer("shift", torch.zeros(unknowns))
        self.register_buffer("mix", torch.eye(unknowns))
        self.register_buffer("whiten", torch.eye(outcomes))
        self.requires_grad_(False)

    def parts(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F [..., Y, L], for u before `shift` and `mix`, b [..., Y] and log s [..., Y] at feature rows [..., F]."""
        found = self.network(rows[..., : self.given]).unflatten(-1, (-1, self.size + 2))
        return found[..., :-2], found[..., -2], found[..., -1].clamp(*LOG_SCALES)

    def outcome(self, rows: Tensor) -> Tensor:
        """Outcomes y [..., Y] of standardised feature rows [..., F], clipped."""
        return rows[..., self.first :].clamp(-LARGEST_OUTCOME, LARGEST_OUTCOME)

    @torch.no_grad()
    def invert(self, rows: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior of u given D.

        Args:
            rows: standardised feature rows [B, n, F].
            mask: [B, n] bool, True for the rows to use; None uses all.

        Returns:
            Mean [B, L] in units of the prior, 0 without rows; and the logarithms of the squared diagonal of A's
            Cholesky factor [B, L], which say how much D tells, 0 without rows.
        """
        equations = self._equations(kept_rows(rows, mask))
        if mask is None:
            count = torch.full((len(rows),), rows.shape[1], dtype=torch.float64, device=rows.device)
        else:
            equations = torch.where(mask[..., None, None], equations, 0.0)
            count = mask.sum(dim=1).double()
        flat = equations.flatten(1, 2)
        return self._posterior(flat.mT @ flat, count, rows.dtype)

    @torch.no_grad()
    def of_windows(self, rows: Tensor, share: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors of u given windows of one sequence, whose rows are looked at once.

        Args:
            rows: standardised feature rows [n, F].
            share: 1 / number of rows of a window where a row is in it, else 0 [W, n], float64.
            count: number of rows of each window [W], float64.

        Returns:
            As :meth:`invert`, [W, L] each.
        """
        equations = self._equations(rows)
        products = equations.mT @ equations
        summed = (count[:, None] * (share @ products.flatten(1))).reshape(len(share), *products.shape[1:])
        return self._posterior(summed, count, rows.dtype)

    def _equations(self, rows: Tensor) -> Tensor:
        """Whitened [F, y - b] [..., Y, L + 1] for u in units of the prior, float64."""
        slopes, intercept, log_scale = self.parts(rows)
        inverse = (-log_scale).exp()
        factors = self.whiten @ ((slopes @ self.mix) * inverse.unsqueeze(-1))
        errors = ((self.outcome(rows) - intercept - slopes @ self.shift) * inverse) @ self.whiten.T
        return torch.cat([factors, errors.unsqueeze(-1)], dim=-1).double()

    def _posterior(self, products: Tensor, count: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """As :meth:`invert`, from the sum of ``[F, y - b]' [F, y - b]`` [B, L + 1, L + 1] over ``count`` [B] rows."""
        gram, right, square = products[:, :-1, :-1], products[:, :-1, -1:], products[:, -1, -1]
        weight = 1.0 / (1.0 + count / INDEPENDENT)
        mean, _ = self._solved(gram, right, weight)
        left = (
            square
            - 2.0 * (right.squeeze(-1) * mean).sum(dim=1)
            + (mean.unsqueeze(1) @ gram @ mean.unsqueeze(2)).flatten()
        )
        excess = (left / (count * len(self.whiten)).clamp(min=1.0)).clamp(min=1.0)
        mean, diagonal = self._solved(gram, right, weight / excess)
        return mean.to(dtype), 2.0 * diagonal.log().to(dtype)

    def _solved(self, gram: Tensor, right: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and diagonal of the precision's Cholesky factor [B, L], with weights [B] of the data."""
        prior, scale = torch.eye(self.size, dtype=gram.dtype, device=gram.device), weight[:, None, None]
        return self.solve(prior + scale * gram, scale * right)


class InformedEncoder(nn.Module):
    """``z = LayerNorm(MLP([encoder(D), u, log A]))``: an encoder beside the inversion of a forward model.

    Args:
        encoder: encoder of D to a context [B, Z].
        model: the forward model.
        context_size: Z.
        hidden: width of the hidden layer.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, model: ForwardModel, context_size: int, hidden: int) -> None:
        super().__init__()
        self.encoder, self.model = encoder, model
        self.head = bounded_head(context_size + 2 * model.size, context_size, hidden)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `metamap_rl.encoders.base.Encoder`."""
        return self._joined(self.encoder(features, mask), *self.model.invert(features, mask))

    def of_windows(self, rows: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        """Encode many windows of one sequence, see `PoolingEncoder.of_windows`; each row once with that encoder."""
        share, count = window_shares(rows, bounds)
        return self._joined(windows_of(self.encoder, rows, bounds), *self.model.of_windows(rows, share, count))

    def _joined(self, context: Tensor, unknowns: Tensor, information: Tensor) -> Tensor:
        z: Tensor = self.head(torch.cat([context, unknowns, information], dim=-1))
        return z

    def share_core(self, other: InformedEncoder) -> None:
        """See `metamap_rl.encoders.base.Encoder`: all but the encoder's first layer and the forward model."""
        self.encoder.share_core(other.encoder)
        self.head = other.head
