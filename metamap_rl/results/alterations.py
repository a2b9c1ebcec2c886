"""Alterations of a recorded D, as a wrapper around the environment or a faulty sensor makes them.

The policy that acted did not see them. `ALTERATIONS` are those whose detection is counted, `DAMAGES` make D useless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.utils import RunningMeanStd
from numpy.typing import NDArray

from metamap_envs.rollout import Rollout

__all__ = ["ALTERATIONS", "DAMAGES", "Alter"]

Alter = Callable[[Rollout, np.random.Generator], Rollout]
Values = NDArray[Any]


class _Replay(gym.Env[Values, Values]):
    """Returns recorded rewards, for a wrapper of rewards."""

    observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.at = rollout, 0

    def step(self, _: Values) -> tuple[Values, float, bool, bool, dict[str, Any]]:
        """Return the next reward; the first one follows the last."""
        at, self.at = self.at % len(self.rollout), self.at + 1
        ends = bool(self.rollout.terminated[at]), bool(self.rollout.truncated[at])
        return np.zeros(1), float(self.rollout.rewards[at]), *ends, {}


def _rewards(change: Callable[[Values], Values]) -> Alter:
    """An alteration of the rewards [n]."""
    return lambda rollout, _: replace(rollout, rewards=change(rollout.rewards).astype(np.float32))


def _normalised_rewards(warm: int) -> Alter:
    """Gymnasium's NormalizeReward, after ``warm`` runs over the same rewards."""

    def alter(rollout: Rollout, _: np.random.Generator) -> Rollout:
        env, count = NormalizeReward(_Replay(rollout)), len(rollout)
        found = [float(env.step(np.zeros(1))[1]) for _ in range((1 + warm) * count)]
        return replace(rollout, rewards=np.array(found[-count:], dtype=np.float32))

    return alter


def _observations(change: Callable[[Values, np.random.Generator], Values]) -> Alter:
    """An alteration of all observations of a rollout [n + n, O], before and after the steps."""

    def alter(rollout: Rollout, generator: np.random.Generator) -> Rollout:
        both = change(np.concatenate([rollout.observations, rollout.next_observations]), generator)
        seen, following = np.split(both.astype(np.float32), 2)
        return replace(rollout, observations=seen, next_observations=following)

    return alter


def _normalised_observations(rollout: Rollout, _: np.random.Generator) -> Rollout:
    """Running mean and variance, updated with each observation, as in Gymnasium's NormalizeObservation."""
    statistics: Any = RunningMeanStd(shape=rollout.observations.shape[1:])  # type: ignore[no-untyped-call]
    found = []
    for one in [rollout.observations[0], *rollout.next_observations]:
        statistics.update(one[None].astype(np.float64))
        found.append((one - statistics.mean) / np.sqrt(statistics.var + 1e-8))
    both = np.array(found, dtype=np.float32)
    return replace(rollout, observations=both[:-1], next_observations=both[1:])


def _delayed_observations(rollout: Rollout, _: np.random.Generator) -> Rollout:
    """Observations of the previous step."""
    before = np.concatenate([rollout.observations[:1], rollout.observations[:-1]])
    return replace(rollout, observations=before, next_observations=rollout.observations)


def _frozen_sensor(both: Values, generator: np.random.Generator) -> Values:
    """One sensor keeps its first value."""
    which, altered = int(generator.integers(both.shape[1])), both.copy()
    altered[:, which] = both[0, which]
    return altered


def _swapped(both: Values, generator: np.random.Generator) -> Values:
    """Two sensors in each other's place."""
    one, other = generator.choice(both.shape[1], 2, replace=False)
    altered = both.copy()
    altered[:, [one, other]] = both[:, [other, one]]
    return altered


def _permuted(both: Values, generator: np.random.Generator) -> Values:
    """Every sensor in the place of another."""
    drawn = generator.permutation(both.shape[1])
    order = np.empty_like(drawn)
    order[drawn] = np.roll(drawn, 1)  # one cycle through all of them: none stays
    return both[:, order]


def _noise(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """Independent numbers with the mean and standard deviation of each sensor and of the reward."""

    def drawn(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return generator.normal(values.mean(axis=0), values.std(axis=0), values.shape).astype(np.float32)

    return replace(
        rollout,
        observations=drawn(rollout.observations),
        actions=generator.uniform(-1, 1, rollout.actions.shape).astype(np.float32),
        rewards=drawn(rollout.rewards),
        next_observations=drawn(rollout.next_observations),
    )


def _shuffled_time(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """The outcome of each step is that of another one."""
    order, other = generator.permutation(len(rollout)), generator.permutation(len(rollout))
    return replace(rollout, rewards=rollout.rewards[order], next_observations=rollout.next_observations[other])


def _far_out(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """Sensors and reward in other units."""
    scaled = replace(rollout, rewards=3 * rollout.rewards)
    return _observations(lambda both, _: 3 * both)(scaled, generator)


ALTERATIONS: dict[str, Alter] = {
    "plain": lambda rollout, _: rollout,
    "NormalizeReward": _normalised_rewards(0),
    "NormalizeReward, run before": _normalised_rewards(1),
    "reward x 0.1": _rewards(lambda r: 0.1 * r),
    "reward x 0.5": _rewards(lambda r: 0.5 * r),
    "reward x 2": _rewards(lambda r: 2.0 * r),
    "reward x 10": _rewards(lambda r: 10.0 * r),
    "reward x -1": _rewards(lambda r: -r),
    "reward + 1 std": _rewards(lambda r: r + r.std()),
    "reward - 1 std": _rewards(lambda r: r - r.std()),
    "reward clipped": _rewards(lambda r: np.clip(r, -0.5 * np.abs(r).mean(), 0.5 * np.abs(r).mean())),
    "sign of the reward": _rewards(np.sign),
    "reward delayed": _rewards(lambda r: np.concatenate([[0.0], r[:-1]])),
    "reward drifts to x 3": _rewards(lambda r: r * np.linspace(1.0, 3.0, len(r))),
    "reward drifts to x 0.2": _rewards(lambda r: r * np.linspace(1.0, 0.2, len(r))),
    "NormalizeObservation": _normalised_observations,
    "observations x 1.5": _observations(lambda both, _: 1.5 * both),
    "observations + 1 std": _observations(lambda both, _: both + both.std(axis=0)),
    "observations noisy, 0.2 std": _observations(
        lambda both, generator: both + 0.2 * both.std(axis=0) * generator.normal(size=both.shape)
    ),
    "observations delayed": _delayed_observations,
    "frozen sensor": _observations(_frozen_sensor),
    "two sensors swapped": _observations(_swapped),
}
"""The first leaves D as it is: its detections are false alarms."""

DAMAGES: dict[str, Alter] = {
    "noise": _noise,
    "shuffled time": _shuffled_time,
    "permuted sensors": _observations(_permuted),
    "frozen sensor": ALTERATIONS["frozen sensor"],
    "frozen": _observations(lambda both, _: np.tile(both[:1], (len(both), 1))),
    "far out": _far_out,
}
