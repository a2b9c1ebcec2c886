"""Policies that are there already: phi_0, the mean expert, the nearest one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamap_rl.evaluation.evaluate import contexts, mean_phi, nearest
from metamap_rl.evaluation.protocol.methods.base import METHODS, Measured, Method, Scored, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.probing.collecting import collect

__all__ = ["BasePolicyMethod", "MeanExpert", "NearestExpert"]

_STORED_SEED = 3_500_000


@METHODS.register("base-policy")
class BasePolicyMethod(Method):
    """phi_0 as it is: the score of not adapting."""

    summary = "phi_0, one robust policy for all tasks"
    signal = "none"
    seeded = False

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        scores = [Scored(split, None, problem.returns(split, problem.base.phi)) for split in problem.splits]
        return Measured(scores, problem.base_steps)


@METHODS.register("mean-expert")
class MeanExpert(Method):
    """The mean of all phi*: what the mapper must be better than if it reads D at all."""

    summary = "mean phi* of the training experts, for all tasks"
    signal = "none"
    seeded = False

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        phi = mean_phi(problem.experts("train"))
        return Measured(
            [Scored(split, None, problem.returns(split, phi)) for split in problem.splits], problem.zoo_steps
        )


@METHODS.register("nearest-expert")
class NearestExpert(Method):
    """A table of experts, looked up by the mapper's context z."""

    summary = "phi* of the training task whose z is nearest, by the mapper's encoder"
    signal = "D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        experts, mapper = problem.experts("train"), problem.mapper(seed)
        stored = collect(
            problem.probe,
            [expert.task for expert in experts],
            problem.base,
            steps=problem.lengths[-1],
            seed=_STORED_SEED + seed,
            num_threads=1,
        )

        def returns(split: str, length: int) -> NDArray[np.float64]:
            here = contexts(mapper, problem.rollouts(split, seed), 0, length)
            there = contexts(mapper, stored, 0, length)
            return problem.returns(split, nearest(here, there, experts))

        steps = problem.zoo_steps + problem.pair_steps + problem.survey_steps
        return Measured(at_lengths(problem, problem.positive_lengths, returns), steps)
