"""PPO on one task, from given weights of actor and critic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from metamap_agents.experts.changes import both, training_envs, wrong_gains, wrong_starts
from metamap_agents.experts.ppo import OnPolicy, OnProgress, learn, make_ppo
from metamap_agents.experts.recipes import Recipe
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.torch_state import isolated_training
from metamap_agents.sb3.bridge import (
    critic_into_sb3,
    log_std_into_sb3,
    phi_from_sb3,
    phi_into_sb3,
    spec_from_sb3,
)
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["FineTuningResult", "tune"]


@dataclass(frozen=True)
class FineTuningResult:
    """Result of PPO on one task.

    Attributes:
        phi: weights of the actor, float32 [P], on normalised observations.
        environment_steps: number of environment steps taken.
        record: whether training ended on a plateau, where the recipe has a rule for it.
    """

    phi: NDArray[np.float32]
    environment_steps: int
    record: dict[str, Any] = field(default_factory=dict)


def tune(
    task: Task,
    start: BasePolicy,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 1,
    on_progress: OnProgress | None = None,
    on_policy: OnPolicy | None = None,
) -> FineTuningResult:
    """Train a policy on one task with PPO, without an evaluation.

    Args:
        task: the task.
        start: initial weights of actor and critic, and the normaliser. Without a critic SB3 draws a new one. The
            standard deviation of the action noise starts at the recipe's ``log_std_init``.
        recipe: settings of PPO; its network must be that of ``start``.
        seed: of noise, episodes and, where ``start`` has none, the critic.
        num_threads: threads of the simulator; 0 takes all cores. Torch always uses one.
        on_progress: see `OnProgress`.
        on_policy: see `OnPolicy`.

    Raises:
        MetaMapError: the recipe's network is not that of ``start``, or training ended in weights that are not finite.
    """
    seed = read_seed(seed)

    def draw(count: int, generator: np.random.Generator) -> list[Task]:
        return [task] * count

    fast = training_envs(
        [task] * recipe.n_envs, recipe.changes, draw, seed, start.normalizer, num_threads, recipe.horizon
    )
    envs = VecNormalize(fast, norm_obs=False, gamma=recipe.gamma)
    starts = wrong_starts(fast, recipe.changes, draw, wrong_gains(start.policies), seed, num_threads)
    with isolated_training():
        model = make_ppo(recipe, envs, seed)
        if spec_from_sb3(model.policy) != start.spec:
            raise MetaMapError(
                f"recipe: expected the network of the base policy, {start.spec}, got {spec_from_sb3(model.policy)}"
            )
        phi_into_sb3(model.policy, start.phi)
        if start.critic:
            critic_into_sb3(model.policy, start.critic)
        log_std_into_sb3(model.policy, np.full_like(start.log_std, recipe.policy_kwargs.log_std_init))
        ended = learn(model, recipe, on_progress, f"on {task.id} ({task.describe()})", both(starts, on_policy))
        phi = phi_from_sb3(model.policy)
    envs.close()
    return FineTuningResult(phi, model.num_timesteps, ended)
