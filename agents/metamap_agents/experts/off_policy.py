"""Teachers: policies of any shape, trained on one task with SB3's off-policy algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from metamap_agents.experts.distillation import Teacher
from metamap_agents.experts.recipes import OffPolicy, Recipe
from metamap_agents.policy.normalizer import Normalizer
from metamap_agents.sb3.bridge import SB3_ACTIVATIONS
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["TrainedTeacher", "train_teacher"]

_REPORT_STEPS = 1000  # environment steps between two reports of progress
_PLACES = {"sac": ("stable_baselines3", "SAC"), "tqc": ("sb3_contrib", "TQC")}


@dataclass(frozen=True)
class TrainedTeacher:
    """A trained teacher and the number of environment steps taken."""

    act: Teacher
    environment_steps: int


class _Report(BaseCallback):
    """Reports the progress of SB3 to a plain function."""

    def __init__(self, on_progress: Callable[[int, int, dict[str, float]], None], total: int) -> None:
        super().__init__()
        self._on_progress = on_progress
        self._total = total
        self._next = _REPORT_STEPS

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < min(self._next, self._total):
            return
        self._next = self.num_timesteps + _REPORT_STEPS
        returns = [float(episode["r"]) for episode in self.model.ep_info_buffer or ()]
        metrics = {"return": float(np.mean(returns))} if returns else {}
        self._on_progress(min(self.num_timesteps, self._total), self._total, metrics)


def train_teacher(
    task: Task,
    normalizer: Normalizer,
    recipe: Recipe,
    *,
    seed: int,
    num_threads: int = 1,
    on_progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> TrainedTeacher:
    """Train a policy of ``recipe.off_policy``'s shape on one task, from random weights.

    SB3 seeds and draws from the global generators; the caller restores them.

    Args:
        task: the task.
        normalizer: of the family; the returned policy takes raw observations.
        recipe: algorithm, ``n_timesteps``, ``gamma`` and ``off_policy``.
        seed: of weights, noise and episodes.
        num_threads: threads of the simulator; 0 takes all cores.
        on_progress: called with (environment steps done, in total, metrics).

    Raises:
        MetaMapError: the algorithm's library is not installed, or training diverged.
    """
    seed = read_seed(seed)
    settings = recipe.off_policy or OffPolicy()
    envs: VecEnv = FamilyVecEnv([task] * settings.n_envs, seed, normalizer, num_threads, np.float32)
    if settings.normalize_reward:
        envs = VecNormalize(envs, norm_obs=False, gamma=recipe.gamma)
    model = _make(recipe, settings, envs, seed)
    diverged = (
        f"training {recipe.algorithm} on {task.id} ({task.describe()}) diverged, its weights or actions are not "
        "finite: lower off_policy.learning_rate"
    )
    try:
        model.learn(
            recipe.n_timesteps, callback=None if on_progress is None else _Report(on_progress, recipe.n_timesteps)
        )
    except ValueError as error:
        if "Expected parameter" not in str(error):  # torch's words where an action has no distribution
            raise
        raise MetaMapError(diverged) from None
    if not all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters()):
        raise MetaMapError(diverged)

    def act(observations: NDArray[Any]) -> NDArray[Any]:
        """Deterministic actions: the squashed mean."""
        actions, _ = model.predict(normalizer.apply(observations).astype(np.float32), deterministic=True)
        return actions

    return TrainedTeacher(act, model.num_timesteps)


def _make(recipe: Recipe, settings: OffPolicy, envs: VecEnv, seed: int) -> OffPolicyAlgorithm:
    """SB3's algorithm with a recipe's settings."""
    more = (
        {"top_quantiles_to_drop_per_net": settings.top_quantiles_to_drop_per_net} if recipe.algorithm == "tqc" else {}
    )
    model: OffPolicyAlgorithm = _algorithm(recipe.algorithm)(
        recipe.policy,
        envs,
        learning_rate=settings.schedule(),
        buffer_size=min(settings.buffer_size, recipe.n_timesteps + settings.n_envs),  # allocated in full by SB3
        learning_starts=settings.learning_starts,
        batch_size=settings.batch_size,
        tau=settings.tau,
        gamma=recipe.gamma,
        train_freq=settings.train_freq,
        gradient_steps=settings.gradient_steps,
        ent_coef=settings.ent_coef,
        policy_kwargs={
            "net_arch": {"pi": list(settings.net_arch.pi), "qf": list(settings.net_arch.qf)},
            "activation_fn": SB3_ACTIVATIONS[settings.activation_fn],
        },
        seed=seed,
        device="cpu",
        **more,
    )
    return model


def _algorithm(name: str) -> Callable[..., OffPolicyAlgorithm]:
    """Return the class of an algorithm.

    Raises:
        MetaMapError: its library is not installed.
    """
    module, attribute = _PLACES[name]
    try:
        found: Callable[..., OffPolicyAlgorithm] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MetaMapError(f"algorithm {name!r} needs sb3-contrib: pip install 'metamap-rl[contrib]'") from None
    return found
