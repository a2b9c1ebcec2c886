"""Recording of the episodes of policies, such as experts on their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.policies import Policies
from metamap_envs.errors import MetaMapError
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["record_policies"]


def record_policies(
    tasks: Sequence[Task], policies: Policies, *, episodes: int, seed: int, num_threads: int = 0
) -> list[Rollout]:
    """Run policy t on task t for whole episodes, without noise.

    Args:
        tasks: T tasks of one family.
        policies: T policies, with ``phi`` [T, P].
        episodes: of each task; episode e is reset with ``seed + e``.
        seed: first reset seed.
        num_threads: threads of the simulator; 0 uses all cores.

    Returns:
        One rollout for each task, whose episodes follow one another.

    Raises:
        MetaMapError: no tasks, ``episodes`` below 1, not one policy for each task, or an invalid seed.
    """
    seed = read_seed(seed)
    if not tasks or episodes < 1:
        raise MetaMapError(f"a recording needs at least 1 task and 1 episode, got {len(tasks)} and {episodes}")
    policy = BatchedPolicy(policies)
    if len(policy) != len(tasks):
        raise MetaMapError(f"policies: expected one policy for each of {len(tasks)} tasks, got {len(policy)}")
    count = len(tasks) * episodes
    envs = FamilyVectorEnv(
        [task for task in tasks for _ in range(episodes)],
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    observations, _ = envs.reset(seed=[seed + episode for _ in tasks for episode in range(episodes)])
    rows: list[list[tuple[Any, ...]]] = [[] for _ in range(count)]
    running = np.ones(count, dtype=np.bool_)
    while running.any():
        actions: NDArray[np.float32] = policy(observations.reshape(len(tasks), episodes, -1)).reshape(count, -1)
        following, rewards, terminated, truncated, infos = envs.step(actions)
        for index in np.flatnonzero(running):
            ended = bool(terminated[index] or truncated[index])
            seen = infos["final_obs"][index] if ended else following[index]
            rows[index].append(
                (observations[index], actions[index], rewards[index], seen, terminated[index], truncated[index])
            )
        running &= ~(terminated | truncated)
        observations = following
    envs.close()
    return [
        Rollout.from_rows(task.family, list(chain(*rows[place * episodes : (place + 1) * episodes])), task)
        for place, task in enumerate(tasks)
    ]
