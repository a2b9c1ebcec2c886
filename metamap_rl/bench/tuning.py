"""Tuning on the first part of a stream only ("k % tuning"), after which settings are frozen.

Mesbahi et al. 2024, arXiv 2404.02113: hyper-parameters that were chosen on the whole stream were
chosen on data that a learner in the world would not have had yet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Number, Settings, Whole

__all__ = ["TUNING", "Candidate", "Choice", "TuningSettings", "choose", "head"]

TUNING = "tuning"
"""Folder of the cells of tuning, below that of the benchmark."""

_MOST_CANDIDATES = 64

Values = dict[str, Any]
Grid = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]


class TuningSettings(Settings):
    """What is tuned, and on how much of a stream."""

    share: Annotated[Number, Field(gt=0, le=1)] = 0.1
    """Share of a stream's arrivals, rounded up to whole ones."""
    seeds: Annotated[Whole, Field(ge=1)] = 3
    """Seeds 0, 1, ... whose mean AP_final decides; independent of the benchmark's number of seeds."""
    grids: Annotated[dict[str, Grid], Field(min_length=1)]
    """Values by learner and dotted key, all combinations of which are tried. Keys are of the config of the stream for a
    mapper's learner (``update.learning_rate``, ``learner.every``), of its own settings for others
    (``settings.learning_rate``).
    """

    def model_post_init(self, context: Any) -> None:
        """Check the size of the grids."""
        for learner in self.grids:
            count = len(self.candidates(learner))
            if count > _MOST_CANDIDATES:
                raise MetaMapError(f"grids: {learner}: expected at most {_MOST_CANDIDATES} combinations, got {count}")

    def candidates(self, learner: str) -> list[Values]:
        """Combinations of values, the first key slowest; none for a learner without a grid."""
        grid = self.grids.get(learner)
        if grid is None:
            return []
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Candidate:
    """A combination of values, and what it came to on the first part of the stream."""

    values: Values
    scores: Sequence[float | None]
    """AP_final by seed."""
    environment_steps: int
    """Over all seeds."""


@dataclass(frozen=True)
class Choice:
    """Values that were frozen, with the record of how they were chosen."""

    values: Values
    record: dict[str, Any]


def head(arrivals: int, share: float) -> int:
    """Arrivals to tune on."""
    return max(1, math.ceil(share * arrivals - 1e-9))


def choose(candidates: Sequence[Candidate], tuning: TuningSettings, arrivals: int, what: str) -> Choice:
    """The candidate with the highest mean AP_final; the first of equal ones.

    Args:
        candidates: all of one learner on one stream.
        tuning: settings.
        arrivals: number of the arrivals that were tuned on.
        what: learner and stream, for errors.

    Raises:
        MetaMapError: no candidate has a score.
    """
    means: list[float] = []
    for candidate in candidates:
        known = [score for score in candidate.scores if score is not None]
        means.append(sum(known) / len(known) if len(known) == len(candidate.scores) else -math.inf)
    best = max(range(len(means)), key=lambda index: means[index])
    if means[best] == -math.inf:
        raise MetaMapError(f"{what}: no setting has a score on the first {arrivals} arrivals, so none can be chosen")
    tried: list[Mapping[str, Any]] = [
        {"values": candidate.values, "AP_final": None if mean == -math.inf else mean}
        for candidate, mean in zip(candidates, means, strict=True)
    ]
    return Choice(
        candidates[best].values,
        {
            "share": tuning.share,
            "arrivals": arrivals,
            "seeds": tuning.seeds,
            "candidates": tried,
            "chosen": candidates[best].values,
            "environment_steps": sum(candidate.environment_steps for candidate in candidates),
        },
    )
