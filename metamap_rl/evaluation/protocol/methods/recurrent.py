"""RL^2: a recurrent policy, trained over the family."""

from __future__ import annotations

from metamap_agents.runtime.seeds import META_EXPLORATION
from metamap_rl.evaluation.baselines.recurrent import RecurrentConfig, train_recurrent
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns, takes
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["RL2"]


_CONFIG = RecurrentConfig()


@METHODS.register("rl2")
@takes(_CONFIG, "n_timesteps", "n_envs", "n_steps", "batch_size", "n_epochs", "learning_rate", "lstm_hidden_size")
class RL2(Method):
    """sb3-contrib's RecurrentPPO on trials: k steps of exploration, then an episode, with one hidden state."""

    summary = "RL^2: RecurrentPPO over the family, k steps of exploration of its own"
    signal = "k own steps, in its memory"

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        gamma = problem.base.record.get("recipe", {}).get("gamma", _CONFIG.gamma)
        config = self.filled(_CONFIG, gamma=gamma, lengths=problem.lengths)
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
