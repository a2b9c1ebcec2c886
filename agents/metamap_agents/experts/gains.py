"""Experts as gains on the actions of one universal policy, found by search.

Experts that are trained one by one end in different gaits, and then phi* is no function of the task that a mapper could
learn from a few dozen examples. Where tasks differ in their actuators, one good policy becomes an expert of every task
once each of its actions is scaled or inverted: one number per action, a search space so small that a few hundred
episodes are enough. All such experts share one gait. PPO may continue from the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field, model_validator

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.seeds import GAIN_FINAL, GAIN_SEARCH
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT
from metamap_envs.task import Task

__all__ = ["GainSearch", "GainSearchResult", "search_gains", "with_gains"]

_Returns = Callable[[NDArray[np.float64], int, int], NDArray[np.float64]]
"""Mean returns [N] of gains [N, A], over so many episodes, the first reset with a seed."""


class GainSearch(BaseModel):
    """Settings of the cross-entropy method over gains (Rubinstein & Kroese 2004)."""

    model_config = STRICT

    population: int = Field(default=48, ge=2)
    """Gains tried in an iteration, an episode each."""
    elite: int = Field(default=8, ge=2)
    """The best of them, to which the next iteration's normal distribution is fitted."""
    iterations: int = Field(default=12, ge=1)
    restarts: int = Field(default=8, ge=1)
    """Largest number of searches; the best result is used, as one may end at the wrong sign of an action."""
    enough: float = Field(default=0.95, gt=0, le=1)
    """No search follows one that closes this fraction of the gap between random actions and the universal policy on its
    own task."""
    spread: float = Field(default=1.0, gt=0)
    """Initial standard deviation of the gains, around 0."""
    least_spread: float = Field(default=0.05, gt=0)
    """Lower limit of the standard deviation."""
    largest: float = Field(default=2.5, gt=0)
    """Gains stay within plus and minus this."""
    final_episodes: int = Field(default=4, ge=1)
    """Episodes by which the results of the restarts are compared."""

    @model_validator(mode="after")
    def _check_elite(self) -> GainSearch:
        if self.elite > self.population:
            raise ValueError(f"elite = {self.elite} must be at most population = {self.population}")
        return self


@dataclass(frozen=True)
class GainSearchResult:
    """Result of a search.

    Attributes:
        gains: one for each action, float64 [A].
        phi: weights with the gains applied, float32 [P].
        environment_steps: number of environment steps taken.
    """

    gains: NDArray[np.float64]
    phi: NDArray[np.float32]
    environment_steps: int


def with_gains(spec: PolicySpec, phi: NDArray[np.float32], gains: ArrayLike) -> NDArray[np.float32]:
    """Scale the actions of a policy: rows of the output layer, weights and bias.

    Args:
        spec: its shape.
        phi: its weights [P].
        gains: [..., A].

    Returns:
        Weights float32 [..., P].
    """
    factors = np.asarray(gains, dtype=np.float32)
    scaled: NDArray[np.float32] = np.tile(phi, (*factors.shape[:-1], 1))
    parts, last = spec.split(scaled), len(spec.hidden)  # views of it
    parts[f"layers.{last}.weight"] *= factors[..., None]
    parts[f"layers.{last}.bias"] *= factors
    return scaled


def search_gains(
    task: Task,
    phi: NDArray[np.float32],
    base: BasePolicy,
    settings: GainSearch,
    *,
    seed: int,
    enough: float = np.inf,
    num_threads: int = 1,
) -> GainSearchResult:
    """Search the gains with which a policy has the highest return on a task.

    Args:
        task: the task.
        phi: weights that the gains act on [P].
        base: provides the shape of the network and the normaliser.
        settings: see `GainSearch`.
        seed: of the search; the episodes start from the same states whatever it is.
        enough: return from which on no further search is started.
        num_threads: of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    generator = np.random.default_rng(seed)
    steps = 0

    def returns(gains: NDArray[np.float64], episodes: int, first_seed: int) -> NDArray[np.float64]:
        nonlocal steps
        found = evaluate_policies(
            [task] * len(gains),
            base.policies(with_gains(base.spec, phi, gains)),
            episodes=episodes,
            seed=first_seed,
            num_threads=num_threads,
        )
        steps += int(found.lengths.sum())
        means: NDArray[np.float64] = found.returns.mean(axis=1)
        return means

    tried = [np.ones(base.spec.action_size)]  # the policy as it is
    scores = returns(np.stack(tried), settings.final_episodes, GAIN_FINAL).tolist()
    for _ in range(settings.restarts):
        ends = _cross_entropy(settings, base.spec.action_size, generator, returns)
        tried += ends
        scores += returns(np.stack(ends), settings.final_episodes, GAIN_FINAL).tolist()
        if max(scores) >= enough:
            break
    chosen = tried[int(np.argmax(scores))]
    return GainSearchResult(chosen, with_gains(base.spec, phi, chosen), steps)


def _cross_entropy(
    settings: GainSearch, size: int, generator: np.random.Generator, returns: _Returns
) -> list[NDArray[np.float64]]:
    """One search: mean of the last distribution, and the gains with the best single episode, each [A]."""
    mean, std = np.zeros(size), np.full(size, settings.spread)  # no sign is more likely than the other
    best, best_return = mean, -np.inf
    for iteration in range(settings.iterations):
        tried = mean + std * generator.standard_normal((settings.population, size))
        tried = np.clip(tried, -settings.largest, settings.largest)
        if iteration:
            tried[0] = best
        scores = returns(tried, 1, GAIN_SEARCH + iteration)
        order = np.argsort(-scores, kind="stable")
        if scores[order[0]] > best_return:
            best, best_return = tried[order[0]].copy(), float(scores[order[0]])
        elite = tried[order[: settings.elite]]
        mean, std = elite.mean(axis=0), np.maximum(elite.std(axis=0), settings.least_spread)
    return [mean, best]
