"""Forecast from memory: confidence that a task is similar to stored ones, and expected return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.memory import Memory

__all__ = ["Forecast", "forecast"]

_MOST_ITEMS = 64
"""Maximum number of stored rollouts compared, so that the cost does not grow with the stream."""


@dataclass(frozen=True)
class Forecast:
    """Confidence and expected return; both None with fewer than two tasks of the embodiment in memory."""

    confidence: float | None = None
    """In (0, 1]: ``exp(-d / r)``, d the distance of z to the nearest stored task's, r the median distance between
    stored nearest neighbours: 1 for a task equal to a stored one, 0.37 for one at distance r.
    """
    predicted_return: float | None = None
    """Mean return of the experts of stored tasks, weighted by ``exp(-d^2 / 2 r^2)``."""


@torch.no_grad()
def forecast(mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Forecast:
    """Compare the context z of D with those of stored rollouts, encoded by the current encoder.

    Args:
        mapper: the mapper.
        memory: memory, of which one rollout per task is used.
        embodiment: embodiment of D.
        features: feature rows of D [k, F].
    """
    stored = [item for item in memory.held_out() if item.embodiment == embodiment][-_MOST_ITEMS:]
    if embodiment not in mapper or len(stored) < 2:
        return Forecast()
    length = min(len(features), *(len(item.features) for item in stored))
    rows = torch.stack([features[:length], *(item.features[:length] for item in stored)])
    z = mapper[embodiment].encode(rows)
    apart = torch.cdist(z[1:], z[1:]).fill_diagonal_(torch.inf).min(dim=1).values
    radius = apart.median().clamp(min=1e-6)
    distance = torch.linalg.vector_norm(z[1:] - z[0], dim=1)
    weights = torch.softmax(-0.5 * (distance / radius).square(), dim=0)
    returns = torch.tensor([item.expert_return for item in stored])
    return Forecast(float(torch.exp(-distance.min() / radius)), float(weights @ returns))
