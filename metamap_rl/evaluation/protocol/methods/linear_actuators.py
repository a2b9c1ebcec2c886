"""The policy of the unchanged robot behind the inverse of a linear map between action and actuators."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.fine_tuning import tune
from metamap_agents.experts.recipes import load_recipe
from metamap_envs.family import Family
from metamap_envs.settings import Whole
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
    by_default = False

    timesteps: Annotated[Whole, Field(ge=0)] = 0
    """Environment steps of PPO on the unchanged robot, from the universal policy and by the recipe of experts."""

    @classmethod
    def lacking(cls, family: Family, has_universal: bool) -> str | None:
        """See `Method`; families that hide nothing between action and actuators are refused."""
        if not family.action_factors and type(family).controls is Family.controls:
            return "parameters between action and actuators, which the family does not have"
        return super().lacking(family, has_universal)

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        unchanged, spec = problem.family.task(), problem.base.spec
        phi = self.policy(problem, seed)

        def returns(split: str, length: int) -> NDArray[np.float64]:
            rollouts = problem.rollouts(split, seed)
            found = [
                identify_actuators(rollouts.rollout(task, 0).head(length), unchanged) for task in range(len(rollouts))
            ]
            return problem.returns(split, np.stack([undone(spec, phi, one) for one in found]))

        scores = at_lengths(problem, problem.positive_lengths, returns)
        return MethodResult(scores, problem.universal_steps + self.timesteps)

    def policy(self, problem: Problem, seed: int) -> NDArray[np.float32]:
        """Weights of the policy of the unchanged robot."""
        unchanged, universal = problem.family.task(), problem.universal
        phi = universal.expert_for(unchanged)
        if not self.timesteps:
            return phi
        start = replace(problem.base, phi=phi, critic=universal.critic_for(unchanged))
        recipe = load_recipe(problem.family.name, "expert", n_timesteps=self.timesteps)
        return tune(unchanged, start, recipe, seed=seed, num_threads=problem.num_threads).phi
