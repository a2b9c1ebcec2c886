"""A rule that ends a training whose return no longer improves."""

from __future__ import annotations

import math

from pydantic import BaseModel, Field

from metamap_envs.settings import STRICT

__all__ = ["Plateau", "PlateauRule"]


class Plateau(BaseModel):
    """Settings of the rule: PPO ends when its smoothed return has not improved for ``patience`` rollouts."""

    model_config = STRICT

    patience: int = Field(ge=1)
    """Consecutive rollouts without an improvement after which training ends."""
    least: float = Field(default=0.02, ge=0, lt=1)
    """Smallest improvement that counts, as a fraction of the range of smoothed returns so far."""
    smooth: float = Field(default=0.8, ge=0, lt=1)
    """Weight of the previous value in the exponential moving average; 0 for no smoothing."""


class PlateauRule:
    """Tracks the mean episode return of one training."""

    def __init__(self, settings: Plateau) -> None:
        self._settings = settings
        self._smoothed = math.nan
        self._low, self._high = math.inf, -math.inf
        self._best = -math.inf
        self._waited = 0

    def reached(self, mean_return: float) -> bool:
        """Add the mean return of one more rollout; return whether training has reached a plateau."""
        keep = self._settings.smooth if math.isfinite(self._smoothed) else 0.0
        self._smoothed = mean_return if keep == 0 else keep * self._smoothed + (1 - keep) * mean_return
        self._low, self._high = min(self._low, self._smoothed), max(self._high, self._smoothed)
        if self._smoothed > self._best + self._settings.least * (self._high - self._low):
            self._best, self._waited = self._smoothed, 0
        else:
            self._waited += 1
        return self._waited >= self._settings.patience
