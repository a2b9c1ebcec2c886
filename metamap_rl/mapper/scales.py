"""Units that a mapper measures in, taken from its training tasks once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_rl.data.examples import Examples
from metamap_rl.data.survey import Survey

__all__ = ["Scales"]

SCALE_FLOOR = 0.1
"""Least unit of a weight, as a share of the root mean square of all ``phi* - phi_0``. A weight that training tasks
hardly move would otherwise have a tiny unit, and its noise would count in the weight loss like everybody's signal."""

CONSTANT = 1e-6
"""Standard deviation under which a feature or coordinate counts as constant and is centred only."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Units of features, weights and coordinates."""

    feature_mean: Tensor
    """[F]."""
    feature_std: Tensor
    """[F], positive."""
    weight_scale: Tensor
    """[P], positive: one unit of the hypernetwork's output, for each weight."""
    coordinate_mean: Tensor
    """[K]; K is 0 without a survey."""
    coordinate_std: Tensor
    """[K], positive."""

    @classmethod
    def of(cls, examples: Examples, phi_0: Tensor, survey: Survey | None = None) -> Scales:
        """Take means and standard deviations over tasks.

        The unit of a weight is the root mean square of ``phi* - phi_0``, what all tasks share included: experts
        of one parent share almost all of it, and in units of what differs between them the common part would be many
        units away from the untrained mapper. Where every ``phi*`` given is phi_0 itself (examples that say how a
        network must behave, not which weights do it), it is the root mean square of phi_0, for all weights. Features
        are measured over the survey where there is one, since it has many more tasks.
        """
        source = examples.features if survey is None else survey.features
        feature_mean, feature_std = _mean_and_std(source.flatten(0, 2))
        coordinates = torch.zeros(1, 0) if survey is None else survey.coordinates
        coordinate_mean, coordinate_std = _mean_and_std(coordinates)
        change = examples.phi - phi_0
        floor = SCALE_FLOOR * _root_mean_square(change) or _root_mean_square(phi_0) or 1.0
        return cls(
            feature_mean=feature_mean,
            feature_std=feature_std,
            weight_scale=change.square().mean(dim=0).sqrt().clamp(min=floor),
            coordinate_mean=coordinate_mean,
            coordinate_std=coordinate_std,
        )

    @classmethod
    def of_first_task(cls, features: Tensor, phi: Tensor, phi_0: Tensor) -> Scales:
        """Take units from one task alone, as a stream has to: D [R, n, F], and phi* [P] beside phi_0.

        Nothing is known of how weights differ between tasks: all get one unit, the root mean square of phi* - phi_0.
        """
        feature_mean, feature_std = _mean_and_std(features.flatten(0, 1))
        coordinate_mean, coordinate_std = _mean_and_std(torch.zeros(1, 0))
        return cls(
            feature_mean=feature_mean,
            feature_std=feature_std,
            weight_scale=torch.full_like(phi, _root_mean_square(phi - phi_0) or 1.0),
            coordinate_mean=coordinate_mean,
            coordinate_std=coordinate_std,
        )


def _mean_and_std(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column; 1 for a column that is constant."""
    mean = rows.mean(dim=0)
    std = (rows - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(std < CONSTANT, 1.0, std)


def _root_mean_square(values: Tensor) -> float:
    return values.square().mean().sqrt().item()
