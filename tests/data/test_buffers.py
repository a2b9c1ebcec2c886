"""Buffers of Stable-Baselines3 become rollouts of one environment, the oldest transition first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer

from helpers.recordings import FAMILY
from metamap_envs.errors import MetaMapError
from metamap_rl import rollout_from_buffer

SEEN, ACTIONS = Box(-np.inf, np.inf, (8,)), Box(-1, 1, (2,))
ENVS = 2


def observation(step: int) -> np.ndarray:
    """Tells step and environment."""
    return np.stack([np.array([step, env, *np.zeros(6)]) for env in range(ENVS)])


def filled(size: int, steps: int, **settings: Any) -> ReplayBuffer:
    buffer = ReplayBuffer(size * ENVS, SEEN, ACTIONS, device="cpu", n_envs=ENVS, **settings)
    for step in range(steps):
        ended = np.array([step == 3, step == 4], dtype=float)
        infos: list[dict[str, Any]] = [{}, {"TimeLimit.truncated": step == 4}]
        buffer.add(
            observation(step), observation(step + 1), np.full((ENVS, 2), 0.1 * step), np.full(ENVS, step), ended, infos
        )
    return buffer


@pytest.mark.parametrize(("size", "steps"), [(20, 7), (7, 7), (7, 12)])
@pytest.mark.parametrize("thrifty", [False, True])
def test_a_replay_buffer_is_in_order(size: int, steps: int, thrifty: bool) -> None:
    settings = {"optimize_memory_usage": True, "handle_timeout_termination": False} if thrifty else {}
    found = rollout_from_buffer(FAMILY, filled(size, steps, **settings), env=1)
    first = max(0, steps - size) + (thrifty and steps >= size)
    expected = np.arange(first, steps)
    np.testing.assert_array_equal(found.rewards, expected)
    np.testing.assert_array_equal(found.observations[:, 0], expected)
    np.testing.assert_array_equal(found.next_observations[:, 0], expected + 1)
    assert (found.observations[:, 1] == 1).all()
    if not thrifty:
        assert not found.terminated.any()
        assert found.truncated.tolist() == [step == 4 for step in expected]


def test_the_newest_transitions_can_be_taken() -> None:
    assert rollout_from_buffer(FAMILY, filled(7, 12), newest=3).rewards.tolist() == [9, 10, 11]


def test_a_rollout_buffer_leaves_out_the_last_step_of_each_episode() -> None:
    import torch

    buffer = RolloutBuffer(8, SEEN, ACTIONS, device="cpu", n_envs=ENVS)
    for step in range(8):
        starts = np.array([step in (0, 5), step == 0], dtype=float)
        values = torch.zeros(ENVS), torch.zeros(ENVS)
        buffer.add(observation(step), np.full((ENVS, 2), 0.1 * step), np.full(ENVS, step), starts, *values)
    assert rollout_from_buffer(FAMILY, buffer).rewards.tolist() == [0, 1, 2, 3, 5, 6]
    found = rollout_from_buffer(FAMILY, buffer, env=1)
    assert found.rewards.tolist() == [0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(found.next_observations[:, 0], found.observations[:, 0] + 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env": 2}, r"\[0, 1\], got 2"),
        ({"env": True}, "env: expected"),
        ({"newest": 0}, "newest: expected at least 1"),
        ({"buffer": "model.pkl"}, "expected a ReplayBuffer"),
        ({"family": "cheetah-velocity"}, "expected 17 columns"),
        ({"family": "reacher"}, "did you mean 'reacher-goal'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], words: str) -> None:
    given = {"family": FAMILY, "buffer": filled(7, 5), **arguments}
    with pytest.raises(MetaMapError, match=words):
        rollout_from_buffer(**given)


def test_an_empty_buffer_is_refused() -> None:
    with pytest.raises(MetaMapError, match="no transitions"):
        rollout_from_buffer(FAMILY, filled(7, 0))
