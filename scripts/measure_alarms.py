"""Measure which alterations of D the self-checks of the bundled mappers notice, and how often they raise a false alarm.

For each family, D of validation tasks that no calibration has seen are collected by the mapper's probe and altered
afterwards, as a wrapper around the environment or a faulty sensor would have done; the policy that acted did not see
that. Counted is the share of D that is foreign, by alteration and transitions; of "plain" D that is the rate of false
alarms. No policy is generated and none is run. Prints one JSON document and writes it to ``--out``.

    python scripts/measure_alarms.py --out docs/results/selfcheck/alarms.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.utils import RunningMeanStd
from numpy.typing import NDArray

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.adaptation.bundled import bundled_families, find_mapper
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json

TASK_SEED, PROBE_SEED = 9_100_000, 9_200_000

Alter = Callable[[Rollout, np.random.Generator], Rollout]
Values = NDArray[Any]


class Replay(gym.Env[Values, Values]):
    """Gives recorded rewards, for a wrapper of rewards to be put around."""

    observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.at = rollout, 0

    def step(self, _: Values) -> tuple[Values, float, bool, bool, dict[str, Any]]:
        """Give the next reward, after the last one the first again."""
        at, self.at = self.at % len(self.rollout), self.at + 1
        ends = bool(self.rollout.terminated[at]), bool(self.rollout.truncated[at])
        return np.zeros(1), float(self.rollout.rewards[at]), *ends, {}


def rewards(change: Callable[[Values], Values]) -> Alter:
    """An alteration of the rewards [n]."""
    return lambda rollout, _: replace(rollout, rewards=change(rollout.rewards).astype(np.float32))


def normalised_rewards(warm: int) -> Alter:
    """Gymnasium's NormalizeReward, which has run over the same rewards so many times before."""

    def alter(rollout: Rollout, _: np.random.Generator) -> Rollout:
        env, count = NormalizeReward(Replay(rollout)), len(rollout)
        found = [float(env.step(np.zeros(1))[1]) for _ in range((1 + warm) * count)]
        return replace(rollout, rewards=np.array(found[-count:], dtype=np.float32))

    return alter


def observations(change: Callable[[Values, np.random.Generator], Values]) -> Alter:
    """An alteration of all observations of a rollout [n + n, O], before and after the steps."""

    def alter(rollout: Rollout, generator: np.random.Generator) -> Rollout:
        both = change(np.concatenate([rollout.observations, rollout.next_observations]), generator)
        seen, following = np.split(both.astype(np.float32), 2)
        return replace(rollout, observations=seen, next_observations=following)

    return alter


def normalised_observations(rollout: Rollout, _: np.random.Generator) -> Rollout:
    """Running mean and variance, updated with each observation, as in Gymnasium's NormalizeObservation."""
    statistics: Any = RunningMeanStd(shape=rollout.observations.shape[1:])  # type: ignore[no-untyped-call]
    found = []
    for one in [rollout.observations[0], *rollout.next_observations]:
        statistics.update(one[None].astype(np.float64))
        found.append((one - statistics.mean) / np.sqrt(statistics.var + 1e-8))
    both = np.array(found, dtype=np.float32)
    return replace(rollout, observations=both[:-1], next_observations=both[1:])


def delayed_observations(rollout: Rollout, _: np.random.Generator) -> Rollout:
    """Observations of one step ago."""
    before = np.concatenate([rollout.observations[:1], rollout.observations[:-1]])
    return replace(rollout, observations=before, next_observations=rollout.observations)


def frozen(both: Values, generator: np.random.Generator) -> Values:
    """One sensor shows its first value for ever."""
    which, altered = int(generator.integers(both.shape[1])), both.copy()
    altered[:, which] = both[0, which]
    return altered


def swapped(both: Values, generator: np.random.Generator) -> Values:
    """Two sensors are read in each other's place."""
    one, other = generator.choice(both.shape[1], 2, replace=False)
    altered = both.copy()
    altered[:, [one, other]] = both[:, [other, one]]
    return altered


ALTERATIONS: dict[str, Alter] = {
    "plain": lambda rollout, _: rollout,
    "NormalizeReward": normalised_rewards(0),
    "NormalizeReward, run before": normalised_rewards(1),
    "reward x 0.1": rewards(lambda r: 0.1 * r),
    "reward x 0.5": rewards(lambda r: 0.5 * r),
    "reward x 2": rewards(lambda r: 2.0 * r),
    "reward x 10": rewards(lambda r: 10.0 * r),
    "reward x -1": rewards(lambda r: -r),
    "reward + 1 std": rewards(lambda r: r + r.std()),
    "reward - 1 std": rewards(lambda r: r - r.std()),
    "reward clipped": rewards(lambda r: np.clip(r, -0.5 * np.abs(r).mean(), 0.5 * np.abs(r).mean())),
    "sign of the reward": rewards(np.sign),
    "reward delayed": rewards(lambda r: np.concatenate([[0.0], r[:-1]])),
    "reward drifts to x 3": rewards(lambda r: r * np.linspace(1.0, 3.0, len(r))),
    "reward drifts to x 0.2": rewards(lambda r: r * np.linspace(1.0, 0.2, len(r))),
    "NormalizeObservation": normalised_observations,
    "observations x 1.5": observations(lambda both, _: 1.5 * both),
    "observations + 1 std": observations(lambda both, _: both + both.std(axis=0)),
    "observations noisy, 0.2 std": observations(
        lambda both, generator: both + 0.2 * both.std(axis=0) * generator.normal(size=both.shape)
    ),
    "observations delayed": delayed_observations,
    "frozen sensor": observations(frozen),
    "two sensors swapped": observations(swapped),
}


def shares(mapper: Mapper, rollouts: list[Rollout], lengths: list[int]) -> dict[str, dict[str, float]]:
    """Share of D that counts as foreign, by alteration and transitions."""
    found: dict[str, dict[str, float]] = {}
    for name, alter in ALTERATIONS.items():
        generator = np.random.default_rng(0)
        # a D of n transitions is altered as such: what drifts has drifted by its end
        found[name] = {
            str(steps): float((novelties(mapper, [alter(one.head(steps), generator) for one in rollouts]) > 1.0).mean())
            for steps in lengths
        }
    return found


def novelties(mapper: Mapper, rollouts: list[Rollout]) -> NDArray[np.float64]:
    """How unusual each D is [T]; bundled mappers have a self-check."""
    verdicts = [mapper.judge(rollout) for rollout in rollouts]
    return np.array([verdict.novelty for verdict in verdicts if verdict is not None])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all families."""
    torch.set_num_threads(1)
    families: dict[str, Any] = {}
    for name in arguments.family or bundled_families():
        mapper, _ = find_mapper(arguments.bundles / name if arguments.bundles else name)
        tasks = get_family(mapper.family).sample("validation", arguments.tasks, TASK_SEED)
        probe = probe_from_json(mapper.probe)
        found = collect(probe, tasks, mapper.base, steps=max(arguments.lengths), seed=PROBE_SEED)
        families[name] = shares(mapper, [found.rollout(task) for task in range(len(tasks))], arguments.lengths)
        print(f"{name}: false alarms {families[name]['plain']}", file=sys.stderr, flush=True)
    return {
        "foreign": families,
        "settings": {"tasks": arguments.tasks, "lengths": arguments.lengths},
        "machine": describe_machine(),
        "versions": library_versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=bundled_families(), help="default: all of them")
    parser.add_argument("--bundles", type=Path, help="another folder of bundles")
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50, 100, 200], help="transitions of D")
    parser.add_argument("--tasks", type=int, default=64, help="of each family, with one D each")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)  # what cannot be written fails now, not after minutes
    result = measure(arguments)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
