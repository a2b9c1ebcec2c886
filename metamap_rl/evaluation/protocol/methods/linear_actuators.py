"""The policy of the unchanged robot behind the inverse of a linear map between action and actuators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamap_rl.evaluation.identification import identify_actuators, undone
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["LinearActuatorModel"]


@METHODS.register("linear-actuators")
class LinearActuatorModel(Method):
    """System identification by a model that need not hold: actions act as a linear map of them on the unchanged robot.

    The policy is the universal policy given the family's default task, with the inverse of the map on its actions. What
    else is hidden, such as a target, stays at its default. On `cheetah-network` it is the rival that does not know the
    network; `sysid` is given it.
    """

    summary = (
        "a linear map between action and actuators, identified on D, and its inverse on the unchanged robot's policy"
    )
    signal = "D and the simulator of the unchanged robot"
    needs_universal = True
    needs_state = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        unchanged = problem.family.task()
        spec, phi = problem.base.spec, problem.universal.expert_for(unchanged)

        def returns(split: str, length: int) -> NDArray[np.float64]:
            rollouts = problem.rollouts(split, seed)
            found = [
                identify_actuators(rollouts.rollout(task, 0).head(length), unchanged) for task in range(len(rollouts))
            ]
            return problem.returns(split, np.stack([undone(spec, phi, one) for one in found]))

        return MethodResult(at_lengths(problem, problem.positive_lengths, returns), problem.universal_steps)
