"""Methods without learning: base policy, mean expert, nearest expert."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.mapper.mapper import Mapper

__all__ = ["BasePolicyMethod", "MeanExpert", "NearestExpert"]


@METHODS.register("base-policy")
class BasePolicyMethod(Method):
    """phi_0 without adaptation."""

    summary = "phi_0, one robust policy for all tasks"
    signal = "none"
    seeded = False

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        scores = [MethodReturns(split, None, problem.returns(split, problem.base.phi)) for split in problem.splits]
        return MethodResult(scores, problem.base_steps)


@METHODS.register("mean-expert")
class MeanExpert(Method):
    """The mean of all phi*, independent of D."""

    summary = "mean phi* of the training experts, for all tasks"
    signal = "none"
    seeded = False

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        phis = np.stack([expert.phi for expert in problem.experts("train")])
        phi = phis.mean(axis=0, dtype=np.float64).astype(np.float32)
        scores = [MethodReturns(split, None, problem.returns(split, phi)) for split in problem.splits]
        return MethodResult(scores, problem.zoo_steps)


@METHODS.register("nearest-expert")
class NearestExpert(Method):
    """Lookup of the nearest training expert by the mapper's context z."""

    summary = "phi* of the training task whose z is nearest, by the mapper's encoder"
    signal = "D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        experts, mapper = problem.experts("train"), problem.mapper(seed)
        phis, stored = np.stack([expert.phi for expert in experts]), problem.stored(seed)

        def returns(split: str, length: int) -> NDArray[np.float64]:
            here, there = (_contexts(mapper, found, length) for found in (problem.rollouts(split, seed), stored))
            return problem.returns(split, phis[torch.cdist(here, there).argmin(dim=1).numpy()])

        return MethodResult(at_lengths(problem, problem.positive_lengths, returns), problem.mapper_steps)


def _contexts(mapper: Mapper, rollouts: Rollouts, steps: int) -> torch.Tensor:
    """Contexts z [T, Z] of the first transitions of each task's rollout, each encoded separately."""
    return torch.cat([mapper.read(rollouts.rollout(task, 0).head(steps)).z for task in range(len(rollouts))])
