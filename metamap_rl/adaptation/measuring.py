"""Returns of base policy and adapted policy, on a task or in one environment."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.family_spaces import FamilySpaces, name_of
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.values import read_whole
from metamap_rl.adaptation.one_shot import AdaptedPolicy

__all__ = ["evaluation_seeds", "measure_episode", "measure_in_env", "measure_on_task"]


class Predictor(Protocol):
    """Anything with SB3's ``predict``."""

    def predict(self, observation: Any, /) -> tuple[Any, Any]:
        """Actions and state."""
        ...


def measure_on_task(policy: AdaptedPolicy, task: Task, episodes: int = 10) -> dict[str, list[float]]:
    """Measure returns of "base" and "generated" policy, one per episode, on the same reset seeds in the fast simulator.

    Raises:
        MetaMapError: a task of another family, or ``episodes`` below 1.
    """
    get_family(policy.adaptation.family).check_task(task)
    phis = np.stack([policy.base.phi, policy.phi])
    found = evaluate_policies([task, task], policy.base.policies(phis), episodes=episodes)
    return {"base": found.returns[0].tolist(), "generated": found.returns[1].tolist()}


def measure_in_env(policy: AdaptedPolicy, env: gym.Env[Any, Any], episodes: int = 10) -> dict[str, list[float]]:
    """Measure returns of "base" and "generated" policy, one per episode, on the same reset seeds in one environment.

    Episodes are truncated at the family's horizon.

    Raises:
        MetaMapError: ``episodes`` below 1, or an environment whose spaces differ from the family's or that returns
            invalid values such as NaN.
    """
    seeds = evaluation_seeds(episodes)
    family = get_family(policy.adaptation.family)
    view = FamilySpaces(env, family)
    starts: dict[str, list[NDArray[np.float64]]] = {}
    returns: dict[str, list[float]] = {}
    for name, phi in (("base", policy.base.phi), ("generated", policy.phi)):
        one = WeightPolicy(policy.base.policies(phi), view.observation_space, view.action_space)
        found = [measure_episode(one, view, seed, family.horizon) for seed in seeds]
        starts[name], returns[name] = [start for start, _ in found], [total for _, total in found]
    if not np.array_equal(starts["base"], starts["generated"]):
        warnings.warn(
            f"environment {name_of(env)!r}: two resets with the same seed start differently, so base and generated "
            "policy were not measured on the same episodes",
            stacklevel=2,
        )
    return returns


def evaluation_seeds(episodes: int) -> Sequence[int]:
    """Reset seeds of so many episodes.

    Raises:
        MetaMapError: below 1.
    """
    return range(EVALUATION_SEED, EVALUATION_SEED + read_whole("episodes", episodes, 1))


def measure_episode(policy: Predictor, env: gym.Env[Any, Any], seed: int, horizon: int) -> tuple[Any, float]:
    """Run one episode.

    Args:
        policy: acts in the spaces of the environment.
        env: the environment.
        seed: of the reset.
        horizon: after so many steps the episode is truncated.

    Returns:
        Its first observation, and its return.
    """
    seed = read_seed(seed)
    start, _ = env.reset(seed=seed)
    observation, total = start, 0.0
    for _ in range(horizon):
        action, _ = policy.predict(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    return start, total
