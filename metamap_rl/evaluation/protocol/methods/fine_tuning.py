"""Fine-tuning by PPO on k environment steps, from phi_0 or from Reptile's initial weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.fine_tuning import tune
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_envs.settings import Number, Whole
from metamap_rl.evaluation.baselines import FewShotBatch, ReptileConfig, train_reptile
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns, takes
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["FineTuning", "Reptile"]

_SHORTEST = 2  # minimum batch of PPO


class _OnOwnSteps(Method):
    """PPO on k environment steps of the policy itself on the task: one rollout, one update."""

    learning_rates: tuple[Annotated[Number, Field(gt=0)], ...] = Field(
        default=(3e-5, 1e-4, 3e-4, 1e-3, 3e-3), min_length=1
    )
    """Candidate learning rates; for each k the best one on validation tasks is used."""
    epochs: Annotated[Whole, Field(ge=1)] = 10
    """Epochs over the k steps."""

    def _measure(
        self, problem: Problem, seed: int, phi: NDArray[np.float32]
    ) -> tuple[list[MethodReturns], dict[str, Any]]:
        """Scores at all lengths, and the learning rate selected for each."""
        scores, chosen = [], {}
        for split in problem.splits:
            if 0 in problem.lengths:
                scores.append(MethodReturns(split, 0, problem.returns(split, phi)))
        for length in (length for length in problem.lengths if length >= _SHORTEST):
            found = {
                rate: float(
                    problem.returns("validation", self._tuned(problem, "validation", seed, phi, length, rate)).mean()
                )
                for rate in self.learning_rates
            }
            best = max(found, key=lambda rate: found[rate])
            chosen[str(length)] = best
            scores += [
                MethodReturns(
                    split, length, problem.returns(split, self._tuned(problem, split, seed, phi, length, best))
                )
                for split in problem.splits
            ]
        return scores, {"learning_rates": chosen}

    def _tuned(
        self, problem: Problem, split: str, seed: int, phi: NDArray[np.float32], length: int, rate: float
    ) -> NDArray[np.float32]:
        """Weights [T, P] after ``length`` steps on each task."""
        recipe = _recipe(problem, length, rate, self.epochs)
        start = replace(problem.base, phi=phi)
        return np.stack(
            [
                tune(task, start, recipe, seed=(problem.zoo.expert_seed(task) + seed) % 2**31).phi
                for task in problem.tasks(split)
            ]
        )


def _recipe(problem: Problem, length: int, rate: float, epochs: int) -> Recipe:
    """The family's expert recipe for one rollout of one environment, without gains, universal policies and teachers."""
    name = problem.zoo.family.name
    return load_recipe(
        name,
        "expert",
        algorithm="ppo",
        start="base",
        gain_search=None,
        plateau=None,
        n_envs=1,
        n_steps=length,
        n_timesteps=length,
        batch_size=length,
        n_epochs=epochs,
        learning_rate=rate,
    )


@METHODS.register("fine-tuning")
class FineTuning(_OnOwnSteps):
    """Fine-tuning of phi_0 by PPO, for as many environment steps as D has."""

    summary = "phi_0 fine-tuned by PPO on k steps of its own"
    signal = "rewards of k own steps"

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        scores, record = self._measure(problem, seed, problem.base.phi)
        return MethodResult(scores, problem.base_steps, record)


_REPTILE = ReptileConfig(iterations=2000, tasks=5, inner_rate=0.02, outer_rate=0.5, minibatch=32)


@METHODS.register("reptile")
@takes(_REPTILE, "iterations", "tasks", "inner_rate", "outer_rate", "minibatch")
class Reptile(_OnOwnSteps):
    """Reptile's initial weights, close to all experts (Nichol et al. 2018), then PPO, as D has no expert actions.

    In training the inner steps of a task are gradient steps on its expert's behaviour, a much better signal than
    returns of short rollouts.
    """

    summary = "Reptile on the experts' behaviour, then PPO on k steps of its own"
    signal = "rewards of k own steps"

    states: Annotated[Whole, Field(ge=1)] = 320
    """States of the expert in one inner epoch."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        start = self.start(problem, seed)
        scores, record = self._measure(problem, seed, start)
        return MethodResult(scores, problem.zoo_steps + problem.pair_steps, record)

    def start(self, problem: Problem, seed: int) -> NDArray[np.float32]:
        """Initial weights of Reptile [P], from phi_0."""
        examples = problem.examples("train")
        count = examples.inputs.shape[1]

        def draw(generator: torch.Generator, tasks: int) -> FewShotBatch:
            chosen = torch.randint(len(examples), (tasks, 1), generator=generator)
            state = torch.randint(count, (tasks, self.states), generator=generator)
            inputs, targets = examples.inputs[chosen, state], examples.targets[chosen, state]
            return FewShotBatch(inputs, targets, inputs, targets)

        phi: NDArray[np.float32] = train_reptile(
            problem.base.spec, torch.tensor(problem.base.phi)[None], draw, self.filled(_REPTILE, seed=seed)
        ).numpy()[0]
        return phi
