"""MAML for policies: meta-learned initial weights for policy gradient steps on D."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from metamap_rl.evaluation.baselines import PolicyMAMLConfig, train_policy_maml
from metamap_rl.evaluation.baselines.policy_gradient import ADVANTAGES, Adapter
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, at_lengths, takes
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["MAML"]


_CONFIG = PolicyMAMLConfig()


@METHODS.register("maml")
@takes(_CONFIG, "iterations", "inner_steps", "inner_rate", "discount")
class MAML(Method):
    """Inner: REINFORCE on D's rewards. Outer: the expert's behaviour (GMPS), step sizes learned (Meta-SGD)."""

    summary = "meta-learned start and step sizes, then policy gradient steps on D"
    signal = "rewards in D"

    advantages: tuple[str, ...] = Field(default=ADVANTAGES, min_length=1)
    """Candidate advantages, see `PolicyMAMLConfig`; the best one on validation tasks is used."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        base = problem.base
        examples, validation = problem.examples("train"), problem.examples("validation")
        found: dict[str, tuple[float, Adapter]] = {}
        for advantage in self.advantages:
            config = self.filled(_CONFIG, advantage=advantage, seed=seed)
            adapter = train_policy_maml(
                base.spec, base.normalizer, torch.tensor(base.phi), examples, validation, config
            )
            score = np.mean(
                [
                    problem.returns("validation", self._phis(problem, adapter, "validation", seed, k)).mean()
                    for k in problem.positive_lengths
                ]
            )
            found[advantage] = (float(score), adapter)
        best = max(found, key=lambda advantage: found[advantage][0])
        adapter = found[best][1]

        def returns(split: str, length: int) -> NDArray[np.float64]:
            return problem.returns(split, self._phis(problem, adapter, split, seed, length))

        steps = problem.zoo_steps + problem.pair_steps
        return MethodResult(at_lengths(problem, problem.lengths, returns), steps, {"advantage": best})

    def _phis(self, problem: Problem, adapter: Adapter, split: str, seed: int, length: int) -> NDArray[np.float32]:
        """Adapted weights [T, P]; the initial weights for an empty D."""
        if not length:
            return np.tile(adapter.phi.numpy(), (len(problem.tasks(split)), 1))
        rollouts = problem.rollouts(split, seed)
        features, ends = (torch.from_numpy(part[:, 0, :length]) for part in (rollouts.features(), rollouts.ends))
        phis: NDArray[np.float32] = adapter(features, ends).numpy()
        return phis
