"""The universal policy given the task: the true one, the mapper's estimate, or that of system identification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.task import Task
from metamap_rl.evaluation.identification import Identification, IdentificationConfig, identify
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["Estimate", "Oracle", "SystemIdentification"]


def _given(problem: Problem, tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Weights [T, P] of the universal policy for tasks."""
    return np.stack([problem.universal.expert_for(task) for task in tasks])


@METHODS.register("universal-policy")
class Oracle(Method):
    """The oracle: the universal policy given the true task, the reference of all methods that read D.

    Experts of families with searched gains or further PPO differ from it. Its stored name is not "oracle", which in
    older documents is the privileged mapper.
    """

    summary = "oracle: the universal policy given the true parameters"
    signal = "the true parameters"
    seeded = False
    needs_universal = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        scores = [
            MethodReturns(split, None, problem.returns(split, _given(problem, problem.tasks(split))))
            for split in problem.splits
        ]
        return MethodResult(scores, problem.universal_steps)


@METHODS.register("estimate")
class Estimate(Method):
    """The universal policy given the mapper's own estimate of the parameters, clipped to what the family admits.

    The control that shows whether generated weights are needed: same encoder, same D.
    """

    summary = "the universal policy given the parameters that the mapper reads in D"
    signal = "D"
    needs_mapper = True
    needs_universal = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        mapper, family = problem.mapper(seed), problem.family

        def returns(split: str, length: int) -> NDArray[np.float64]:
            rollouts = problem.rollouts(split, seed)
            read = [mapper.read_parameters(rollouts.rollout(task, 0).head(length)) for task in range(len(rollouts))]
            return problem.returns(split, _given(problem, [family.closest_task(values) for values in read]))

        return MethodResult(at_lengths(problem, problem.positive_lengths, returns), problem.mapper_steps)


@METHODS.register("sysid")
class SystemIdentification(Method, IdentificationConfig):
    """The universal policy given the task that explains D best in the simulator; see `identify`.

    It is given what a mapper is not: the simulator, with the formula of the reward, and the state that the observation
    holds. ``model_error`` makes the simulator wrong. Families whose observations do not hold the state are left out.
    """

    summary = "system identification on D in the simulator, then the universal policy"
    signal = "D, the simulator and the reward's formula"
    needs_universal = True
    needs_state = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`; the record holds seconds and simulated steps of each length, and unidentified parameters."""
        config = IdentificationConfig(**{name: getattr(self, name) for name in IdentificationConfig.model_fields})
        record: dict[str, Any] = {}

        def returns(split: str, length: int) -> NDArray[np.float64]:
            rollouts = problem.rollouts(split, seed)
            found = [
                identify(rollouts.rollout(task, 0).head(length), config, num_threads=problem.num_threads)
                for task in range(len(rollouts))
            ]
            record.setdefault(split, {})[str(length)] = _cost(found)
            return problem.returns(split, _given(problem, [one.task for one in found]))

        scores = at_lengths(problem, problem.positive_lengths, returns)
        return MethodResult(scores, problem.universal_steps, record)


def _cost(found: Sequence[Identification]) -> dict[str, Any]:
    """Costs of the tasks of a split, as JSON values."""
    return {
        "seconds": round(float(np.mean([one.seconds for one in found])), 4),
        "simulated_steps": float(np.mean([one.steps for one in found])),
        "unidentified": [list(one.unidentified) for one in found],
    }
