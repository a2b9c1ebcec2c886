"""Lookup of the stored task whose model of the outcomes explains D best."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_envs.settings import Number
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.baselines.outcomes import Features, OutcomeModels
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["LikeliestExpert"]


@METHODS.register("likeliest-expert")
class LikeliestExpert(Method):
    """phi* of the training task under whose model of change and reward D is most likely.

    Each training task has a ridge regression from observation and action, fitted to its stored
    rollouts. Unlike `nearest-expert` it reads single transitions, not statistics of D.
    """

    summary = "phi* of the training task whose model of change and reward explains D best"
    signal = "D"

    features: tuple[Features, ...] = Field(default=("linear", "quadratic"), min_length=1)
    """Candidate features of observation and action; the best ones on validation tasks are used."""
    ridges: tuple[Annotated[Number, Field(gt=0)], ...] = Field(default=(1e-3, 1e-1), min_length=1)
    """Candidate weights of the squared differences from the model of all tasks; chosen likewise."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        phis, memory = np.stack([expert.phi for expert in problem.experts("train")]), problem.memory(seed)

        def nearest(models: OutcomeModels, split: str, length: int) -> NDArray[np.float32]:
            found = models.log_likelihood(_head(problem.rollouts(split, seed), length))
            chosen: NDArray[np.float32] = phis[found.argmax(axis=1)]
            return chosen

        def score(models: OutcomeModels) -> float:
            lengths = problem.positive_lengths
            return float(np.mean([problem.returns("validation", nearest(models, "validation", k)) for k in lengths]))

        candidates = [(features, ridge) for features in self.features for ridge in self.ridges]
        if len(candidates) > 1:
            scores = [score(OutcomeModels.fit(memory, problem.base.normalizer, *each)) for each in candidates]
            candidates = [candidates[int(np.argmax(scores))]]
        best = candidates[0]
        models = OutcomeModels.fit(memory, problem.base.normalizer, *best)
        scored = at_lengths(
            problem,
            problem.positive_lengths,
            lambda split, length: problem.returns(split, nearest(models, split, length)),
        )
        record: dict[str, Any] = {"features": best[0], "ridge": best[1]}
        return MethodResult(scored, problem.zoo_steps + memory.rewards.size, record)


def _head(rollouts: Rollouts, length: int) -> Rollouts:
    """The first transitions of every rollout."""
    return Rollouts(rollouts.tasks, **{name: array[:, :, :length] for name, array in rollouts.arrays().items()})
