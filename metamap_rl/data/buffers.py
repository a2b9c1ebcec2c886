"""Buffers of Stable-Baselines3 in memory as rollouts. Their files are pickles, which are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.rollout import Rollout
from metamap_envs.values import read_whole, shown
from metamap_rl.data.readers.base import Recording
from metamap_rl.data.recordings import rollout_of

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import BaseBuffer

__all__ = ["rollout_from_buffer"]


def rollout_from_buffer(family: str, buffer: BaseBuffer, *, env: int = 0, newest: int | None = None) -> Rollout:
    """Transitions of one environment in a replay or rollout buffer, the oldest first.

    A rollout buffer has no next observations: the last step of each episode is left out. What ``VecNormalize`` has
    normalised in it, as in rollout buffers, is not undone.

    Args:
        family: name of the family.
        buffer: a ``ReplayBuffer`` or ``RolloutBuffer``, as ``model.replay_buffer`` or ``model.rollout_buffer``.
        env: index of the environment; transitions of several are independent and not mixed.
        newest: number of transitions to take, the latest ones; None for all.

    Raises:
        MetaMapError: another object, an environment that it does not have, observations of another shape than the
            family's, or nothing stored.
    """
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer, RolloutBuffer

    given: Any = buffer
    if not isinstance(given, ReplayBuffer | RolloutBuffer) or isinstance(given.observations, dict):
        kind = "a buffer of Dict observations" if isinstance(given, DictReplayBuffer) else shown(given)
        raise MetaMapError(f"buffer: expected a ReplayBuffer or RolloutBuffer of Stable-Baselines3, got {kind}")
    env = read_whole("env", env)
    if env >= given.n_envs:
        raise MetaMapError(f"env: expected a whole number in [0, {given.n_envs - 1}], got {env}")
    newest = None if newest is None else read_whole("newest", newest, least=1)
    count = given.buffer_size if given.full else given.pos
    order = (np.arange(count) + (given.pos if given.full else 0)) % given.buffer_size
    if isinstance(given, ReplayBuffer) and given.optimize_memory_usage and given.full:
        order = order[1:]  # the next observation of the newest one is where the oldest was
    if newest is not None:
        order = order[-newest:]
    columns = {
        "observations": _rows(given.observations, order, env),
        "actions": _rows(given.actions, order, env),
        "rewards": given.rewards[order, env],
    }
    if isinstance(given, ReplayBuffer):
        following = (order + 1) % given.buffer_size if given.optimize_memory_usage else order
        seen = given.observations if given.optimize_memory_usage else given.next_observations
        columns["next_observations"] = _rows(seen, following, env)
        columns["done"], columns["truncated"] = given.dones[order, env], given.timeouts[order, env]
    else:
        columns["episode"] = np.cumsum(given.episode_starts[order, env])
    return rollout_of(Recording(columns, type(given).__name__), family).rollout


def _rows(array: Any, order: Any, env: int) -> Any:
    """Rows [n, k] of one environment."""
    return array[order, env].reshape(len(order), int(np.prod(array.shape[2:])))
