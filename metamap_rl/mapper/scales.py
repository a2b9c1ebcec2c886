"""Units of a mapper's features, weights and coordinates, computed once from its training tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_rl.data.examples import Examples
from metamap_rl.data.survey import Survey

__all__ = ["Scales"]

SCALE_FLOOR = 0.1
"""Minimum unit of a weight, as a fraction of the root mean square of all ``phi* - phi_0``. The unit of a weight that
hardly changes would otherwise be tiny, and its noise would dominate the weight loss.
"""

CONSTANT = 1e-6
"""Standard deviation below which a feature or coordinate counts as constant and is only centred."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Units of features, weights and coordinates."""

    feature_mean: Tensor
    """Means [F]."""
    feature_std: Tensor
    """Standard deviations [F], positive."""
    weight_scale: Tensor
    """Unit of the hypernetwork's output for each weight [P], positive."""
    coordinate_mean: Tensor
    """Means [K]; K is 0 without a survey."""
    coordinate_std: Tensor
    """Standard deviations [K], positive."""

    @classmethod
    def of(cls, examples: Examples, phi_0: Tensor, survey: Survey | None = None) -> Scales:
        """Compute means and standard deviations over tasks.

        The unit of a weight is the root mean square of ``phi* - phi_0``, not its standard deviation: experts fine-tuned
        from one policy share most of the change, and in units of their differences this common part would be far from
        the untrained mapper. If every ``phi*`` is phi_0 itself (examples of behaviour without weights), it is the root
        mean square of phi_0, for all weights. Statistics of features come from the survey if there is one, since it has
        many more tasks.
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
        """Compute units from a single task, as in a stream: D [R, n, F], phi* [P] and phi_0 [P].

        How weights differ between tasks is unknown: all get one unit, the root mean square of phi* - phi_0.
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
    """Mean and standard deviation of each column; the latter is 1 for a constant column."""
    mean = rows.mean(dim=0)
    std = (rows - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(std < CONSTANT, 1.0, std)


def _root_mean_square(values: Tensor) -> float:
    return values.square().mean().sqrt().item()
