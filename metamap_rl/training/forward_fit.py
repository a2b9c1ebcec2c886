"""Fit of a mapper's forward model to a survey, before the mapper itself is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metamap_envs.seeds import read_seed
from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.data.examples import draw_rows
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.forward_model import ForwardModel, InformedEncoder
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.updates import gradient_step

__all__ = ["fit_forward_model"]

UPDATES = 1500
ROWS = 512
"""Transitions in a batch, each of a task of its own."""
RATE = 3e-3
"""Peak learning rate of Adam."""
_RESIDUALS = 20_000
_SMALLEST_VARIANCE = 1e-4
"""Added to the variances of the unknowns and of the errors, in standard deviations squared."""


def fit_forward_model(mapper: Mapper, survey: Survey, *, seed: int, updates: int | None = None) -> None:
    """Fit the forward model of a mapper's encoder, in place; without one nothing is done.

    The unknowns of a task are a linear function of the monomials of its coordinates up to degree 2, learned together
    with the model and dropped after the fit. The loss is the Gaussian log-likelihood, each outcome by itself.

    Args:
        mapper: with units, not trained yet.
        survey: rollouts and coordinates.
        seed: of initial weights and batches.
        updates: number of updates, default `UPDATES`.

    Raises:
        MetaMapError: the fit diverged.
    """
    seed = read_seed(seed)
    if not isinstance(mapper.encoder, InformedEncoder):
        return
    updates = UPDATES if updates is None else updates
    model, generator = mapper.encoder.model, torch.Generator().manual_seed(seed)
    monomials = _monomials((survey.coordinates - mapper.coordinate_mean) / mapper.coordinate_std)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embedding = nn.Linear(monomials.shape[1], model.size)
    model.requires_grad_(True)
    optimiser = torch.optim.Adam([*model.parameters(), *embedding.parameters()])
    for update in range(updates):
        errors, log_scale = _errors(mapper, model, survey, monomials, embedding, ROWS, generator)
        loss = (log_scale + 0.5 * errors.square()).mean()
        rate = warmup_cosine(update, updates, warmup=50, highest=RATE)
        gradient_step(loss, optimiser, update=update, rate=rate, clip=1.0)
    model.requires_grad_(False)
    with torch.no_grad():
        unknowns = embedding(monomials)
        model.shift.copy_(unknowns.mean(dim=0))
        model.mix.copy_(torch.linalg.cholesky(_covariance(unknowns)))
        errors, _ = _errors(mapper, model, survey, monomials, embedding, _RESIDUALS, generator)
        precision = torch.linalg.inv(_covariance(errors))
        model.whiten.copy_(torch.linalg.cholesky(precision).T)


def _errors(
    mapper: Mapper,
    model: ForwardModel,
    survey: Survey,
    monomials: Tensor,
    embedding: nn.Module,
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Errors / s and log s [count, Y] of the model at random transitions of random tasks, given the tasks."""
    tasks = torch.randint(len(survey), (count,), generator=generator)
    rows = mapper.standardised(draw_rows(survey.features, tasks, generator, 1, survey.newest)[:, 0])
    slopes, intercept, log_scale = model.parts(rows)
    predicted = (slopes @ embedding(monomials[tasks]).unsqueeze(-1)).squeeze(-1) + intercept
    return (predicted - model.outcome(rows)) * (-log_scale).exp(), log_scale


def _covariance(values: Tensor) -> Tensor:
    """Covariance [K, K] of values [N, K], regular."""
    centred = values - values.mean(dim=0)
    return centred.T @ centred / len(values) + _SMALLEST_VARIANCE * torch.eye(values.shape[1])


def _monomials(coordinates: Tensor) -> Tensor:
    """Coordinates [U, K] and their products of two, [U, K + K (K + 1) / 2]."""
    first, second = torch.triu_indices(coordinates.shape[1], coordinates.shape[1])
    return torch.cat([coordinates, coordinates[:, first] * coordinates[:, second]], dim=1)
