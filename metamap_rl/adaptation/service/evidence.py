"""Evidence for a change of the task within a window of transitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.encoders.parts import windows_of
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import LARGEST_ERROR, SMALLEST_SPREAD, Surprise

__all__ = ["LEAST_BEFORE", "ChangeEvidence"]

Floats = NDArray[np.float32]

LEAST_BEFORE = 10
"""Transitions before a change: fewer are explained by a context of their own, whatever they are."""
_MOST_BEFORE = 50


class ChangeEvidence:
    """Generalised likelihood ratio test of a change (Willsky & Jones 1976; Basseville & Nikiforov 1993, ch. 2).

    For each hypothesis "the task changed w transitions ago" the outcomes of the transitions before and after the change
    are predicted by the self-check's model, once with a context z for each side, once with one for both. A task that
    did not change is explained by one context as well as by two.

    Args:
        mapper: encodes windows.
        surprise: predicts reward and change from observation, action and z.
        config: cuts and margins.
    """

    def __init__(self, mapper: Mapper, surprise: Surprise, config: AdapterConfig) -> None:
        self._encoder, self._config = mapper.encoder, config
        self._likelihood = _OutcomeLikelihood(surprise)

    def due(self, length: int, count: int) -> list[int]:
        """Cuts to test in a window of ``length`` transitions, after ``count`` transitions in all."""
        found = []
        for index, cut in enumerate(self._config.cuts):
            period = max(1, cut // 2)
            if cut + LEAST_BEFORE <= length and count % period == index % period:  # the long ones in different steps
                found.append(cut)
        return found

    def latest_change(self, rows: Floats, cuts: Sequence[int]) -> int | None:
        """Number of transitions since the most likely change; None if no evidence exceeds its margin.

        Args:
            rows: standardised rows of the window [n, F].
            cuts: hypotheses, each below n.
        """
        if not cuts:
            return None
        margins = self._config.margin + self._config.margin_per_transition * np.array(cuts)
        excess = self.gains(rows, cuts).max(axis=1) - margins
        best = int(excess.argmax())
        return cuts[best] if excess[best] > 0 else None

    def gains(self, rows: Floats, cuts: Sequence[int]) -> Floats:
        """Gain in log-likelihood of two contexts over one for each cut, of rewards and of changes [cuts, 2]."""
        end = len(rows)
        before = [min(end - cut, _MOST_BEFORE, max(LEAST_BEFORE, 2 * cut)) for cut in cuts]
        first = min(end - cut - length for cut, length in zip(cuts, before, strict=True))
        rows, end = rows[first:], end - first
        bounds, of_one, of_two, places, sizes = [], [], [], [], []
        for index, (cut, length) in enumerate(zip(cuts, before, strict=True)):
            start, middle = end - cut - length, end - cut
            bounds += [(start, end), (start, middle), (middle, end)]
            of_one.append(np.full(length + cut, 3 * index))
            of_two.append(np.repeat([3 * index + 1, 3 * index + 2], [length, cut]))
            places.append(np.arange(start, end))
            sizes.append(length + cut)
        given = torch.from_numpy(np.ascontiguousarray(rows))
        place, which = np.concatenate([*places, *places]), np.concatenate([*of_one, *of_two])
        with torch.no_grad():
            z = windows_of(self._encoder, given, bounds)
            found = self._likelihood(given[torch.from_numpy(place)], z[torch.from_numpy(which)]).numpy()
        one, two = np.split(found, 2)
        gains: Floats = np.add.reduceat(two - one, np.cumsum([0, *sizes[:-1]]), axis=0)
        return gains


class _OutcomeLikelihood:
    """Robust log-likelihood of the outcomes of transitions, up to a constant: of the reward, and of the change.

    Those of independent Cauchy distributions with the predicted standard deviations as scales, so that one outlier does
    not outweigh all other transitions. In torch, whose number of threads can be set: the products are small, and NumPy
    would divide them among threads.
    """

    def __init__(self, surprise: Surprise) -> None:
        observations = surprise.outcome_size - 1
        self._layout = TransitionLayout(observations, len(surprise.mean) - observations)
        layers = zip(surprise.weights, surprise.biases, strict=True)
        self._layers = [(torch.tensor(weight).t().contiguous(), torch.tensor(bias)) for weight, bias in layers]

    def __call__(self, rows: Tensor, z: Tensor) -> Tensor:
        """Return [M, 2], for the change the mean over its O numbers.

        Args:
            rows: standardised feature rows [M, F].
            z: a context for each row [M, Z].
        """
        value = torch.cat([rows[:, self._layout.state_action], z], dim=1)
        for weight, bias in self._layers[:-1]:
            value = torch.addmm(bias, value, weight).tanh_()
        weight, bias = self._layers[-1]
        expected, spread = torch.addmm(bias, value, weight).chunk(2, dim=1)
        spread = spread.clamp(math.log(SMALLEST_SPREAD), math.log(LARGEST_ERROR))
        errors = (rows[:, self._layout.outcome] - expected) * (-spread).exp()
        found = -spread - errors.clamp(-LARGEST_ERROR, LARGEST_ERROR).square().log1p()
        return torch.stack([found[:, 0], found[:, 1:].mean(dim=1)], dim=1)
