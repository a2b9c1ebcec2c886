"""What generated policies come to and how good it was: noisy episodes on many tasks at once, and their advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.base_policy import BasePolicy
from metamap_agents.policies import BatchedPolicy
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["Experience", "TaskCritic", "act_with_noise", "advantages"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Experience:
    """H steps of E environments on each of T tasks, float32 and bool; episodes follow one another in them."""

    inputs: Floats
    """Normalised observations [T, E, H, O]."""
    actions: Floats
    """As they were drawn, not clipped [T, E, H, A]."""
    rewards: Floats
    """[T, E, H]."""
    following: Floats
    """Normalised observations that the steps led to, before any reset [T, E, H, O]."""
    terminated: NDArray[np.bool_]
    """[T, E, H]."""
    ended: NDArray[np.bool_]
    """Terminated or truncated, or the last step of all [T, E, H]."""

    @property
    def steps(self) -> int:
        """Environment steps that it took."""
        return self.rewards.size


class TaskCritic(nn.Module):
    """V(observation, coordinates of the task): told the task, as it is of use in training only (Pinto et al. 2018).

    Args:
        observation_size: O.
        coordinates: of many training tasks [U, K], which give their units.
        hidden: width of its two hidden layers.
        seed: of its initial parameters; torch's global generator is left as it was.
    """

    mean: Tensor
    std: Tensor
    unit: Tensor

    def __init__(self, observation_size: int, coordinates: Tensor, *, hidden: int, seed: int) -> None:
        seed = read_seed(seed)
        super().__init__()
        self.register_buffer("mean", coordinates.mean(dim=0))
        self.register_buffer("std", coordinates.std(dim=0, correction=0).clamp(min=1e-6))
        self.register_buffer("unit", torch.zeros(()))  # of a return; 0 until the first experience sets it
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(observation_size + coordinates.shape[1], hidden),
                nn.Tanh(),
                nn.Linear(hidden, hidden),
                nn.Tanh(),
                nn.Linear(hidden, 1),
            )

    def forward(self, inputs: Tensor, coordinates: Tensor) -> Tensor:
        """Values [T, S], in units of ``unit``, of normalised observations [T, S, O] on tasks [T, K]."""
        told = ((coordinates - self.mean) / self.std)[:, None].expand(-1, inputs.shape[1], -1)
        values: Tensor = self.layers(torch.cat([inputs, told], dim=-1))[..., 0]
        return values


def act_with_noise(
    tasks: Sequence[Task],
    base: BasePolicy,
    phis: Floats,
    *,
    noise: float,
    episodes: int,
    generator: np.random.Generator,
    num_threads: int = 0,
) -> Experience:
    """Run policy t with Gaussian noise on task t, for as many steps as the longest episode has.

    Args:
        tasks: T tasks of one family.
        base: gives the network's shape and the normaliser.
        phis: weights [T, P].
        noise: standard deviation of every action.
        episodes: E, environments of each task.
        generator: of starts and noise.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    envs = FamilyVectorEnv(
        [task for task in tasks for _ in range(episodes)],
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    policy = BatchedPolicy(base.spec, phis, base.normalizer)
    shape = (len(tasks), episodes)
    observations, _ = envs.reset(seed=[int(one) for one in generator.integers(2**31, size=envs.num_envs)])
    rows: list[tuple[NDArray[Any], ...]] = []

    def grid(part: NDArray[Any]) -> NDArray[Any]:
        return part.reshape(*shape, *part.shape[1:])

    for _ in range(envs.family.horizon):
        means = policy.means(grid(observations))
        actions = means + noise * generator.standard_normal(means.shape, dtype=np.float32)
        after, rewards, terminated, truncated, infos = envs.step(np.clip(actions, -1, 1).reshape(envs.num_envs, -1))
        following = after.copy()
        for index in np.flatnonzero(terminated | truncated):
            following[index] = infos["final_obs"][index]  # the step's own result, not the next episode's start
        steps = (observations, rewards, following, terminated, terminated | truncated)
        rows.append((actions, *(grid(part) for part in steps)))
        observations = after
    envs.close()
    actions, seen, rewards, following, terminated, ended = (
        np.stack(parts, axis=2) for parts in zip(*rows, strict=True)
    )
    ended[:, :, -1] = True
    apply = base.normalizer.apply
    return Experience(
        inputs=apply(seen).astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=rewards.astype(np.float32),
        following=apply(following).astype(np.float32),
        terminated=terminated,
        ended=ended,
    )


def advantages(
    experience: Experience, values: Floats, following: Floats, *, discount: float, trace: float
) -> tuple[Floats, Floats]:
    """Generalised advantage estimates and targets of the critic (Schulman et al. 2016), both [T, E, H].

    An episode that was cut off goes on in the value of the state it was cut off in, one that terminated does not.

    Args:
        experience: gives rewards, in the units of the values, and ends.
        values: of the states before each step [T, E, H].
        following: of the states after it [T, E, H].
        discount: gamma, in [0, 1].
        trace: lambda, in [0, 1].
    """
    bootstrap = following * ~experience.terminated
    surprise = (experience.rewards + discount * bootstrap - values).astype(np.float32)
    found: Floats = np.zeros_like(surprise)
    total: Floats = np.zeros_like(surprise[..., 0])
    for step in range(values.shape[-1] - 1, -1, -1):
        going_on = ~experience.ended[..., step]
        total = (surprise[..., step] + discount * trace * going_on * total).astype(np.float32)
        found[..., step] = total
    return found, found + values
