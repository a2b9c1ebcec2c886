"""Stable-Baselines3 callback that logs an adapted policy beside the model in training."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import FamilySpaces
from metamap_envs.registry import get_family
from metamap_envs.values import read_whole
from metamap_rl.adaptation.measuring import evaluation_seeds, measure_episode, measure_in_env
from metamap_rl.adaptation.one_shot import AdaptedPolicy

__all__ = ["AdaptationCallback"]


class AdaptationCallback(BaseCallback):
    """Logs returns of an adapted policy, of its base policy, and of the model in training, on the same reset seeds.

    For training that starts from an adapted policy (`AdaptedPolicy.save_sb3`, then ``PPO.load(path, env)``), or goes on
    without one: is the model better by now than the policy that needed no training? Records ``metamap/base_return`` and
    ``metamap/adapted_return``, measured once at the start, ``metamap/confidence`` of the self-check, and, every so many
    steps, ``metamap/model_return``: means over episodes, in SB3's logger (TensorBoard, CSV).

    Args:
        policy: the adapted policy.
        env: one environment to measure in, not the one of the training; with the spaces of the model, or those that
            `metamap_envs.FamilySpaces` makes of it.
        every: environment steps between two measurements of the model.
        episodes: of each measurement.
        verbose: as of other callbacks of SB3.

    Attributes:
        returns: "base", "adapted" and "model", the latest means.

    Raises:
        MetaMapError: ``every`` or ``episodes`` below 1; at the start of training, if the environment does not fit the
            policy or the model.
    """

    def __init__(
        self,
        policy: AdaptedPolicy,
        env: gym.Env[Any, Any],
        *,
        every: int = 10_000,
        episodes: int = 10,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.policy, self.env = policy, env
        self.every, self.episodes = read_whole("every", every, 1), len(evaluation_seeds(episodes))
        self.returns: dict[str, float] = {}
        self._next = 0

    def _on_training_start(self) -> None:
        self._acting_in = _fitting(self.model, self.env, self.policy)
        found = measure_in_env(self.policy, self.env, self.episodes)
        self.returns |= {"base": float(np.mean(found["base"])), "adapted": float(np.mean(found["generated"]))}
        self._next = self.num_timesteps
        self._record()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self.every
            horizon = get_family(self.policy.adaptation.family).horizon
            acting = _Model(self.model)
            seeds = evaluation_seeds(self.episodes)
            totals = [measure_episode(acting, self._acting_in, seed, horizon)[1] for seed in seeds]
            self.returns["model"] = float(np.mean(totals))
        return True

    def _on_rollout_end(self) -> None:
        self._record()

    def _record(self) -> None:
        for name, value in self.returns.items():
            self.logger.record(f"metamap/{name}_return", value)
        if self.policy.adaptation.confidence is not None:
            self.logger.record("metamap/confidence", self.policy.adaptation.confidence)


class _Model:
    """A model that acts deterministically, on observations as it normalises them in training."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model, self._normaliser = model, model.get_vec_normalize_env()

    def predict(self, observation: Any, /) -> tuple[NDArray[Any], Any]:
        seen = observation if self._normaliser is None else self._normaliser.normalize_obs(observation)
        return self._model.predict(seen, deterministic=True)


def _fitting(model: BaseAlgorithm, env: gym.Env[Any, Any], policy: AdaptedPolicy) -> gym.Env[Any, Any]:
    """The environment in the spaces of the model."""
    for each in (env, FamilySpaces(env, policy.adaptation.family)):
        shapes = each.observation_space.shape, each.action_space.shape
        same_kind = type(each.action_space) is type(model.action_space)
        if shapes == (model.observation_space.shape, model.action_space.shape) and same_kind:
            return each
    raise MetaMapError(
        f"AdaptationCallback: the model acts in {model.observation_space} and {model.action_space}, the environment "
        f"has {env.observation_space} and {env.action_space}"
    )
