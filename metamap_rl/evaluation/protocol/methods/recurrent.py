"""RL^2: a recurrent policy, trained over the family."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from pydantic import Field

from metamap_agents.runtime.seeds import META_EXPLORATION
from metamap_envs.settings import Number, Whole
from metamap_rl.evaluation.baselines.recurrent import RecurrentConfig, train_recurrent
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["RL2"]


@METHODS.register("rl2")
class RL2(Method):
    """sb3-contrib's RecurrentPPO on trials: k steps of exploration, then an episode, with one hidden state."""

    summary = "RL^2: RecurrentPPO over the family, k steps of exploration of its own"
    signal = "k own steps, in its memory"

    n_timesteps: Annotated[Whole, Field(ge=1)] = 1_000_000
    """Environment steps of training."""
    n_envs: Annotated[Whole, Field(ge=1)] = RecurrentConfig().n_envs
    n_steps: Annotated[Whole, Field(ge=2)] = RecurrentConfig().n_steps
    batch_size: Annotated[Whole, Field(ge=2)] = RecurrentConfig().batch_size
    n_epochs: Annotated[Whole, Field(ge=1)] = RecurrentConfig().n_epochs
    learning_rate: Annotated[Number, Field(gt=0)] = RecurrentConfig().learning_rate
    lstm_hidden_size: Annotated[Whole, Field(ge=1)] = RecurrentConfig().lstm_hidden_size

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        names = {item.name for item in fields(RecurrentConfig)}
        config = RecurrentConfig(
            **{name: value for name, value in self if name in names},
            gamma=problem.base.record.get("recipe", {}).get("gamma", RecurrentConfig().gamma),
            lengths=problem.lengths,
        )
        trained = train_recurrent(
            problem.zoo.family.name,
            problem.base.normalizer,
            problem.training_pairs.rollouts.rewards,
            config,
            seed=seed,
            num_threads=1,
        )
        scores = []
        for split in problem.splits:
            found = trained.measure(
                problem.tasks(split),
                problem.lengths,
                episodes=problem.config.episodes,
                seed=META_EXPLORATION + seed,
                num_threads=1,
            )
            scores += [MethodReturns(split, length, returns) for length, returns in found.items()]
        return MethodResult(scores, trained.steps)
