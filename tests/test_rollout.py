"""Rollouts: shapes, types, and no way in for NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metamap_envs import MetaMapError, Rollout, get_family

TASK = get_family("reacher-goal").task()


def arrays(count: int = 5) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "observations": generator.normal(size=(count, 8)).astype(np.float32),
        "actions": generator.normal(size=(count, 2)).astype(np.float32),
        "rewards": generator.normal(size=count).astype(np.float32),
        "next_observations": generator.normal(size=(count, 8)).astype(np.float32),
        "terminated": np.zeros(count, dtype=np.bool_),
        "truncated": np.arange(count) == count - 1,
    }


def test_length_head_and_arrays() -> None:
    rollout = Rollout(TASK, **arrays())
    assert len(rollout) == 5
    head = rollout.head(2)
    assert len(head) == 2
    assert head.task == TASK
    for name, array in rollout.arrays().items():
        np.testing.assert_array_equal(head.arrays()[name], array[:2])
    assert len(rollout.head(0)) == 0
    assert len(rollout.head(5)) == 5


def test_numbers_become_float32() -> None:
    rollout = Rollout(TASK, **arrays() | {"rewards": np.arange(5.0), "actions": [[1, 2]] * 5})
    assert rollout.rewards.dtype == rollout.actions.dtype == np.float32


@pytest.mark.parametrize("count", [-1, 6])
def test_a_head_longer_than_the_rollout_is_refused(count: int) -> None:
    with pytest.raises(MetaMapError, match=f"5 transitions has no first {count}"):
        Rollout(TASK, **arrays()).head(count)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observations", np.zeros((5, 17), np.float32), r"observations expected shape \(5, 8\), got \(5, 17\)"),
        ("actions", np.zeros((4, 2), np.float32), r"actions expected shape \(5, 2\), got \(4, 2\)"),
        ("rewards", np.zeros((5, 1), np.float32), r"rewards expected shape \(5,\), got \(5, 1\)"),
        ("rewards", np.array(["a"] * 5), "rewards expected numbers"),
        ("rewards", np.array([0, 0, np.nan, 0, 0]), "rewards holds NaN or infinity"),
        ("next_observations", np.full((5, 8), 1e300), "next_observations holds NaN or infinity"),
        ("truncated", np.zeros(5), "truncated expected bool, got float64"),
    ],
)
def test_what_does_not_fit_the_family_is_refused_by_name(name: str, value: object, message: str) -> None:
    with pytest.raises(MetaMapError, match=f"rollout of 'reacher-goal': {message}"):
        Rollout(TASK, **arrays() | {name: value})
