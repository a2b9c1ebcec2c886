"""Collecting D with a probe: on many tasks in the fast simulator, or in one Gymnasium environment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import FamilySpaces
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.data.rollouts import ROLLOUTS_SHAPES, Rollouts
from metamap_rl.probing.probes import Probe, SteeredProbe

__all__ = ["Floats", "Pilot", "collect", "probe_env", "rollout_generator"]

Floats = NDArray[np.float32]


def rollout_generator(seed: int, repeat: int, task: Task) -> np.random.Generator:
    """Generator of one rollout, independent of the other tasks and repeats."""
    digest = hashlib.sha256(f"{read_seed(seed)}:{repeat}:{task.id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def collect(
    probe: Probe,
    tasks: Sequence[Task],
    base: BasePolicy,
    *,
    steps: int,
    repeats: int = 1,
    seed: int,
    num_threads: int = 0,
) -> Rollouts:
    """Run a probe on many tasks at once in the fast simulator.

    Args:
        probe: the probe.
        tasks: T tasks of one family.
        base: the family's base policy.
        steps: n, transitions of each rollout; episodes follow one another in it.
        repeats: R, independent rollouts of each task.
        seed: of episodes and excitation.
        num_threads: threads of the simulator; 0 uses all cores.

    Raises:
        MetaMapError: no tasks, or fewer than one step or repeat.
    """
    seed = read_seed(seed)
    if steps < 1 or repeats < 1:
        raise MetaMapError(f"a probe needs at least 1 step and 1 repeat, got {steps} and {repeats}")
    envs = FamilyVectorEnv(
        [task for task in tasks for _ in range(repeats)],
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    generators = [rollout_generator(seed, repeat, task) for task in tasks for repeat in range(repeats)]
    pilot = Pilot(probe, [generator.spawn(1)[0] for generator in generators], steps, base)
    # One (identical) policy for each environment: a single product with all observations would be summed in an
    # order that depends on their number, and a chaotic system amplifies the last bit.
    policy = BatchedPolicy(base.policies(np.tile(base.phi, (envs.num_envs, 1))))
    observations, _ = envs.reset(seed=[int(generator.integers(2**31)) for generator in generators])
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ROLLOUTS_SHAPES}
    for step in range(steps):
        pilot.look(step, observations)
        actions = pilot.act(step, policy.means(observations[:, None])[:, 0])
        following, rewards, terminated, truncated, infos = envs.step(actions)
        seen = following.copy()
        for index in np.flatnonzero(terminated | truncated):
            seen[index] = infos["final_obs"][index]  # the step's own result, not the next episode's start
        parts: tuple[NDArray[Any], ...] = (observations, actions, rewards, seen, terminated, truncated)
        for name, value in zip(rows, parts, strict=True):
            rows[name].append(value)
        observations = following
    envs.close()
    arrays = {name: _stack(values, len(tasks), repeats) for name, values in rows.items()}
    return Rollouts(tuple(tasks), **arrays)


class Pilot:
    """Runs the plans of N environments, which a steered probe may change."""

    def __init__(self, probe: Probe, generators: Sequence[np.random.Generator], steps: int, base: BasePolicy) -> None:
        self.steering = probe.steering(generators, steps, base) if isinstance(probe, SteeredProbe) else None
        plans = [probe.plan(generator, steps, base.spec.action_size) for generator in generators]
        self.gains = np.stack([plan.gain for plan in plans])
        self.offsets = np.stack([plan.offset for plan in plans])

    def look(self, step: int, observations: NDArray[Any]) -> None:
        """Update the plans of this step from the observations [N, O]."""
        if self.steering is not None and step > 0:
            self.gains[:, step], self.offsets[:, step] = self.steering(step, observations)

    def act(self, step: int, mean: NDArray[Any]) -> Floats:
        """Actions [N, A], given those of the base policy."""
        actions = self.gains[:, step, None] * mean + self.offsets[:, step]
        clipped: Floats = np.clip(actions, -1.0, 1.0).astype(np.float32)
        return clipped


def _stack(values: list[NDArray[Any]], tasks: int, repeats: int) -> NDArray[Any]:
    stacked = np.stack(values, axis=1)
    stacked = stacked if stacked.dtype == np.bool_ else stacked.astype(np.float32)
    return stacked.reshape(tasks, repeats, *stacked.shape[1:])


def probe_env(probe: Probe, env: gym.Env[Any, Any], base: BasePolicy, *, family: str, steps: int, seed: int) -> Rollout:
    """Run a probe in one Gymnasium environment, which may be a user's simulator or robot.

    Args:
        probe: the mapper's probe.
        env: with the family's observations and actions, or those of a declared family's own environment (see
            `metamap_envs.FamilySpaces`); reset as its episodes end.
        base: the family's base policy.
        family: name of the family, for the record and the checks.
        steps: n, number of transitions; 0 gives an empty rollout.
        seed: of the first reset and of the excitation.

    Raises:
        MetaMapError: a negative number of steps, observations or actions of another size or range, or an invalid
            return value of the environment such as NaN, with the step.
    """
    seed = read_seed(seed)
    if steps < 0:
        raise MetaMapError(f"a probe of an environment takes 0 or more steps, got {steps}")
    view = FamilySpaces(env, family)
    # A child seed, since the reset draws from `seed` itself: noise and start of the episode would be correlated.
    (generator,) = np.random.default_rng(seed).spawn(1)
    pilot = Pilot(probe, [generator], steps, base)
    policy = BatchedPolicy(base.policies(base.phi[None]))
    observation, _ = view.reset(seed=seed)
    rows: list[tuple[Any, ...]] = []
    for step in range(steps):
        seen = observation.astype(np.float32)
        pilot.look(step, seen[None])
        action = pilot.act(step, policy.means(seen[None, None])[:, 0])[0]
        observation, reward, terminated, truncated, _ = view.step(action)
        rows.append((seen, action, reward, observation.astype(np.float32), terminated, truncated))
        if terminated or truncated:
            observation, _ = view.reset()
    return Rollout.from_rows(family, rows)
