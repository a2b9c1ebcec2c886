"""How much trajectories of a family's environments change with its parameters: the same actions under other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["ParameterEffect", "Trajectories", "measure_effects", "parameter_values", "run_actions"]

STEPS = 200
"""Longest trajectory that is compared."""

_HOLD = 4  # steps of one random action: white noise averages out in anything heavy
_UNCHANGED = 1e-9


@dataclass(frozen=True)
class Trajectories:
    """S steps of N environments; rows after the end of an episode are undefined.

    Attributes:
        observations: float64 [S + 1, N, O], the first ones those of the reset.
        rewards: float64 [S, N].
        alive: bool [S, N], steps within the first episode.
    """

    observations: NDArray[np.float64]
    rewards: NDArray[np.float64]
    alive: NDArray[np.bool_]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sums of rewards [N]."""
        return np.asarray(np.where(self.alive, self.rewards, 0.0).sum(axis=0))


@dataclass(frozen=True)
class ParameterEffect:
    """What a parameter changes while all others are at their defaults.

    Attributes:
        parameter: its name.
        values: V values, over all that a task may have.
        observations: change of the observations [V]: root mean square difference from the trajectory at the default, in
            standard deviations of each observation over all trajectories.
        rewards: the same of the rewards [V].
        returns: mean return of the random actions [V].
    """

    parameter: str
    values: tuple[float, ...]
    observations: tuple[float, ...]
    rewards: tuple[float, ...]
    returns: tuple[float, ...]

    @property
    def does_nothing(self) -> bool:
        """Whether neither observations nor rewards changed."""
        return max(*self.observations, *self.rewards) < _UNCHANGED


def measure_effects(family: Family, *, values: int = 5, starts: int = 4, seed: int = 0) -> list[ParameterEffect]:
    """Run the same random actions from the same starts with other values of each parameter.

    Args:
        family: the family.
        values: values of each parameter, evenly spaced over its splits; of discrete ones at most so many choices.
        starts: reset seeds.
        seed: the first of them, and seed of the actions.

    Raises:
        MetaMapError: fewer than two values, no start, or what an environment returns cannot be used.
    """
    seed = read_seed(seed)
    if values < 2 or starts < 1:
        raise MetaMapError(f"effects: expected at least 2 values and 1 start, got {values} and {starts}")
    tried = {each.name: parameter_values(each, values) for each in family.space.parameters}
    tasks = [family.task(), *(family.task({name: value}) for name, row in tried.items() for value in row)]
    run = run_actions(family, tasks, starts=starts, seed=seed)
    changes = _changes(run, starts)
    returns = run.returns.reshape(len(tasks), starts).mean(axis=1)
    effects, at = [], 1
    for name, row in tried.items():
        part = slice(at, at + len(row))
        columns = (tuple(each[part].tolist()) for each in (*changes, returns))
        effects.append(ParameterEffect(name, row, *columns))
        at += len(row)
    return effects


def parameter_values(parameter: Parameter, count: int) -> tuple[float, ...]:
    """Values all over a parameter's splits: the ends, and evenly spaced ones between that a task may have."""
    if parameter.choices:
        chosen = np.unique(np.linspace(0, len(parameter.choices) - 1, min(count, len(parameter.choices))).astype(int))
        return tuple(parameter.choices[index] for index in chosen)
    intervals = sorted(parameter.train + parameter.out) or [(parameter.low, parameter.high)]
    low, high = intervals[0][0], max(end for _, end in intervals)
    even = np.geomspace if parameter.scale == "log" else np.linspace
    return tuple(_nearest(float(value), intervals) for value in even(low, high, count))


def _nearest(value: float, intervals: Sequence[tuple[float, float]]) -> float:
    """The value itself, or the closest end of an interval."""
    inside = [float(np.clip(value, low, high)) for low, high in intervals]
    return min(inside, key=lambda each: abs(each - value))


def run_actions(family: Family, tasks: Sequence[Task], *, starts: int, seed: int) -> Trajectories:
    """Run the same random actions on each task, from each start; environments in the order task, then start.

    Actions are uniform over the whole range and are held for 4 steps.
    """
    seed = read_seed(seed)
    steps = min(family.horizon, STEPS)
    low, high = family.action_range
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(low, high, (-(-steps // _HOLD), starts, family.action_size))
    actions = np.tile(np.repeat(drawn, _HOLD, axis=0)[:steps], (1, len(tasks), 1)).astype(np.float32)
    envs = FamilyVectorEnv([task for task in tasks for _ in range(starts)], autoreset_mode=AutoresetMode.SAME_STEP)
    seen, _ = envs.reset(seed=[seed + start for _ in tasks for start in range(starts)])
    observations, rewards, alive = [np.array(seen)], [], [np.ones(len(seen), dtype=np.bool_)]
    for action in actions:
        seen, reward, terminated, truncated, infos = envs.step(action)
        ended = terminated | truncated
        observations.append(_last_seen(np.array(seen), ended, infos))
        rewards.append(np.array(reward))
        alive.append(alive[-1] & ~ended)
    envs.close()
    return Trajectories(np.stack(observations), np.stack(rewards), np.stack(alive[:-1]))


def _last_seen(
    seen: NDArray[np.float64], ended: NDArray[np.bool_], infos: Mapping[str, NDArray[np.object_]]
) -> NDArray[np.float64]:
    """Observations after a step, without those of a reset in the same step."""
    for index in np.flatnonzero(ended):
        seen[index] = infos["final_obs"][index]
    return seen


def _changes(run: Trajectories, starts: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root mean square change of observations and rewards of each task [T] from those of the first."""
    steps, count = run.rewards.shape
    shape = (steps, count // starts, starts)
    alive = run.alive.reshape(shape)
    both = alive & alive[:, :1]
    lengths = alive.sum(axis=0)
    ended_otherwise = (lengths != lengths[:1]).any(axis=-1)
    found = []
    for numbers in (run.observations[1:], run.rewards[..., None]):
        scale = numbers[run.alive].std(axis=0)
        wide = (numbers / np.where(scale > 0, scale, 1.0)).reshape(*shape, -1)
        squares = np.square(wide - wide[:, :1]).mean(axis=-1)
        mean = np.where(both, squares, 0.0).sum(axis=(0, 2)) / both.sum(axis=(0, 2))
        found.append(np.maximum(np.sqrt(mean), np.where(ended_otherwise, 10 * _UNCHANGED, 0.0)))
    return found[0], found[1]
