"""Alterations of D."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helpers.synthetic import pairs, rollout_of
from metamap_rl.results.alterations import ALTERATIONS, DAMAGES


def test_permuted_sensors_leave_none_in_place() -> None:
    whole = rollout_of(pairs(3, 0), 0)
    places = np.arange(whole.observations.shape[1], dtype=np.float32)
    marked = np.tile(places, (len(whole), 1))
    rollout, orders = replace(whole, observations=marked, next_observations=marked), set()
    for seed in range(20):
        found = DAMAGES["permuted sensors"](rollout, np.random.default_rng(seed))
        np.testing.assert_array_equal(found.observations, found.next_observations)
        order = found.observations[0]
        assert sorted(order) == places.tolist()
        assert (order != places).all()
        orders.add(tuple(order))
    assert len(orders) > 1


def test_altered_transitions_have_the_shape_of_those_given_and_leave_them_alone() -> None:
    whole = rollout_of(pairs(3, 0), 0)
    before = replace(whole, observations=whole.observations.copy(), rewards=whole.rewards.copy())
    for name, alter in [*ALTERATIONS.items(), *DAMAGES.items()]:
        altered = alter(whole, np.random.default_rng(0))
        same = []
        for column in ("observations", "actions", "rewards", "next_observations"):
            mine, given = getattr(altered, column), getattr(whole, column)
            assert (mine.shape, mine.dtype) == (given.shape, given.dtype), f"{name}: {column}"
            same.append(np.array_equal(mine, given))
        assert all(same) == (name == "plain"), name
        np.testing.assert_array_equal(whole.observations, before.observations)
        np.testing.assert_array_equal(whole.rewards, before.rewards)
