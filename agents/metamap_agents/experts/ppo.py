"""Stable-Baselines3's PPO with the settings of a recipe and plain functions as callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from metamap_agents.experts.plateau import PlateauRule
from metamap_agents.experts.recipes import Recipe
from metamap_agents.sb3.bridge import SB3_ACTIVATIONS, phi_from_sb3
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed

__all__ = ["OnPolicy", "OnProgress", "learn", "make_ppo"]

OnProgress = Callable[[int, int, dict[str, float]], None]
"""Called after each update of PPO with (environment steps done, in total, metrics)."""

OnPolicy = Callable[[int, NDArray[np.float32]], bool]
"""Called after each rollout of PPO with (environment steps done, weights phi [P]); False ends the training."""


class _Report(BaseCallback):
    """Reports progress and current weights to plain functions; ends the training on a plateau."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        total: int,
        on_policy: OnPolicy | None = None,
        plateau: PlateauRule | None = None,
    ) -> None:
        super().__init__()
        self._on_progress = on_progress
        self._on_policy = on_policy
        self._plateau = plateau
        self._total = total
        self._ended = False
        self.on_plateau = False
        """Whether training ended early because its return no longer improved."""

    def _on_step(self) -> bool:
        return not self._ended

    def _on_rollout_start(self) -> None:
        """Report the current weights; at the first call they are the initial weights."""
        if self._on_policy is not None and not self._ended:
            self._ended = not self._on_policy(
                self.num_timesteps, phi_from_sb3(cast(ActorCriticPolicy, self.model.policy))
            )

    def _on_rollout_end(self) -> None:
        returns = [float(episode["r"]) for episode in self.model.ep_info_buffer or ()]
        if self._plateau is not None and returns and self._plateau.reached(float(np.mean(returns))):
            self._ended = self.on_plateau = self.num_timesteps < self._total  # after the update on this rollout
        if self._on_progress is not None:
            metrics = {"return": float(np.mean(returns))} if returns else {}
            self._on_progress(min(self.num_timesteps, self._total), self._total, metrics)


class _CriticFirst(BaseCallback):
    """Keeps the actor as it is for the first environment steps."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self._timesteps = timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        policy = cast(ActorCriticPolicy, self.model.policy)
        learns = self.num_timesteps >= self._timesteps
        for module in (policy.mlp_extractor.policy_net, policy.action_net):
            module.requires_grad_(learns)
        policy.log_std.requires_grad_(learns)


def make_ppo(recipe: Recipe, envs: VecNormalize, seed: int) -> PPO:
    """Create SB3's PPO with the settings of a recipe."""
    seed = read_seed(seed)
    return PPO(
        recipe.policy,
        envs,
        learning_rate=recipe.schedule(),
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.n_epochs,
        gamma=recipe.gamma,
        gae_lambda=recipe.gae_lambda,
        clip_range=recipe.clip_range,
        ent_coef=recipe.ent_coef,
        vf_coef=recipe.vf_coef,
        max_grad_norm=recipe.max_grad_norm,
        target_kl=recipe.target_kl,
        policy_kwargs={
            "net_arch": {"pi": list(recipe.policy_kwargs.net_arch.pi), "vf": list(recipe.policy_kwargs.net_arch.vf)},
            "activation_fn": SB3_ACTIVATIONS[recipe.policy_kwargs.activation_fn],
            "log_std_init": recipe.policy_kwargs.log_std_init,
        },
        seed=seed,
        device="cpu",
    )


def learn(
    model: PPO, recipe: Recipe, on_progress: OnProgress | None, what: str, on_policy: OnPolicy | None = None
) -> dict[str, Any]:
    """Run PPO until ``n_timesteps``, a plateau, or until ``on_policy`` returns False.

    Returns:
        Entries of the record: whether training ended on a plateau, where the recipe has a rule for it.

    Raises:
        MetaMapError: the weights stopped being finite.
    """
    diverged = f"training {what} diverged, weights or actions are not finite: lower the recipe's learning_rate"
    rule = None if recipe.plateau is None else PlateauRule(recipe.plateau)
    report = _Report(on_progress, recipe.n_timesteps, on_policy, rule)
    try:
        model.learn(recipe.n_timesteps, callback=[report, _CriticFirst(recipe.critic_timesteps or 0)])
    except ValueError as error:
        if "Expected parameter" not in str(error):  # torch's words where an action has no distribution
            raise
        raise MetaMapError(diverged) from None  # the original lists every action
    if not all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters()):
        raise MetaMapError(diverged)
    return {} if rule is None else {"stopped_on_plateau": report.on_plateau}
