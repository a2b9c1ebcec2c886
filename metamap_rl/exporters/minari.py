"""Minari data sets of rollouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.spaces import action_space
from metamap_rl.common.extras import optional_module
from metamap_rl.common.folders import whole_folder
from metamap_rl.exporters.base import EXPORTERS

__all__ = ["Minari"]


@EXPORTERS.register("minari")
class Minari:
    """A folder with the data set in ``data``, for ``minari.MinariDataset(folder / "data")``.

    Each episode has one more observation than actions; the task, if it is known, is in the episode's metadata. An
    episode that the recording cuts is truncated there.
    """

    suffix: ClassVar[str] = ""
    writes: ClassVar[tuple[type, ...]] = (list,)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        rollouts: list[Rollout] = source
        minari = optional_module("minari", "minari")
        optional_module("h5py", "minari")
        storages = optional_module("minari.dataset.minari_storage", "minari")
        family = get_family(rollouts[0].family)
        episodes = [(rollout, episode) for rollout in rollouts for episode in episodes_of(rollout)]
        with whole_folder(path) as folder:
            (folder / "data").mkdir()
            storage = storages.MinariStorage.new(
                folder / "data",
                observation_space=Box(-np.inf, np.inf, (family.observation_size,), np.float32),
                action_space=action_space(family),
                env_spec=gym.spec(family.gym_id),
            )
            storage.update_metadata(
                {
                    "dataset_id": f"{family.name}/recorded-v0",
                    "minari_version": minari.__version__,
                    "description": f"Transitions of {family.name}: {family.description}",
                }
            )
            storage.update_episodes(_buffer(minari, rollout, episode) for rollout, episode in episodes)
            tasks = [rollout.task for rollout, _ in episodes]
            storage.update_episode_metadata(
                {} if task is None else {"task": json.dumps(task.to_json(), sort_keys=True)} for task in tasks
            )


def episodes_of(rollout: Rollout) -> Iterator[slice]:
    """Episodes of a rollout: it is cut after ends, and where an observation is not the one before it."""
    ends = rollout.terminated | rollout.truncated
    ends[:-1] |= (rollout.next_observations[:-1] != rollout.observations[1:]).any(axis=1)
    starts = [0, *(np.flatnonzero(ends[:-1]) + 1).tolist()] if len(rollout) else []
    for start, stop in zip(starts, [*starts[1:], len(rollout)], strict=False):
        yield slice(start, stop)


def _buffer(minari: Any, rollout: Rollout, episode: slice) -> Any:
    """One episode as Minari stores it."""
    truncated = rollout.truncated[episode].copy()
    truncated[-1] |= not rollout.terminated[episode][-1]
    last = rollout.next_observations[episode][-1:]
    return minari.data_collector.EpisodeBuffer(
        observations=np.concatenate([rollout.observations[episode], last]),
        actions=rollout.actions[episode],
        rewards=rollout.rewards[episode],
        terminations=rollout.terminated[episode],
        truncations=truncated,
        infos={},
    )
