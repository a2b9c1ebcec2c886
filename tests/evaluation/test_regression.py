"""Statistics of D and ridge regression, on matrices made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.regression import (
    chosen_ridge,
    means,
    moments,
    products,
    responses,
    ridges,
    usual_response,
)

GIVEN, OUTCOME = slice(0, 2), slice(2, 5)


def test_moments_are_means_and_mean_products() -> None:
    rows = np.array([[[1.0, 2.0], [3.0, -2.0]]])
    assert moments(rows).tolist() == [[2.0, 0.0, 5.0, -2.0, 4.0]]
    assert means(rows).tolist() == [[2.0, 0.0]]
    assert products(np.array([[2.0, 3.0]])).tolist() == [[2.0, 3.0, 4.0, 6.0, 9.0]]


def test_responses_are_the_coefficients_of_each_task() -> None:
    generator = np.random.default_rng(0)
    true = generator.normal(size=(4, 3, 3))  # 1 and two inputs, three outcomes
    inputs = generator.normal(size=(4, 50, 2))
    outcomes = np.concatenate([np.ones((4, 50, 1)), inputs], axis=-1) @ true
    rows = np.concatenate([inputs, outcomes], axis=-1)
    usual = usual_response(rows, GIVEN, OUTCOME)
    found = responses(rows, GIVEN, OUTCOME, usual, penalty=1e-9).reshape(4, 3, 3)
    np.testing.assert_allclose(usual + found, true, atol=1e-6)
    few = responses(rows[:, :1], GIVEN, OUTCOME, usual)
    assert np.abs(few).max() < np.abs(found).max(), "one row changes the usual ones little"


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 30), seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(3, count, 5))
    other, usual = rows[:, generator.permutation(count)], generator.normal(size=(3, 3))
    np.testing.assert_allclose(moments(rows), moments(other), atol=1e-9)
    np.testing.assert_allclose(
        responses(rows, GIVEN, OUTCOME, usual), responses(other, GIVEN, OUTCOME, usual), atol=1e-9
    )


def test_ridge_is_the_closed_form() -> None:
    generator = np.random.default_rng(0)
    features, targets = generator.normal(3.0, 2.0, size=(20, 4)), generator.normal(size=(20, 2))
    (found,) = ridges(features, targets, (0.7,))
    inputs = (features - features.mean(axis=0)) / features.std(axis=0)
    wanted = np.linalg.solve(inputs.T @ inputs + 20 * 0.7 * np.eye(4), inputs.T @ (targets - targets.mean(axis=0)))
    np.testing.assert_allclose(found.coefficients, wanted)
    np.testing.assert_allclose(found(features), targets.mean(axis=0) + inputs @ wanted)


def test_the_penalty_is_chosen_on_other_tasks() -> None:
    generator = np.random.default_rng(0)
    features, others = generator.normal(size=(12, 10)), generator.normal(size=(200, 10))
    noise = generator.normal(size=(12, 1))
    assert chosen_ridge(features, features[:, :1], others, others[:, :1], (1e-6, 100.0)).penalty == 1e-6
    assert chosen_ridge(features, noise, others, np.zeros((200, 1)), (1e-6, 100.0)).penalty == 100.0


def test_constant_features_do_no_harm() -> None:
    features = np.stack([np.ones(5), np.arange(5.0)], axis=1)
    (found,) = ridges(features, features[:, 1:], (1e-9,))
    np.testing.assert_allclose(found(features), features[:, 1:], atol=1e-6)


def test_too_few_tasks_are_refused() -> None:
    with pytest.raises(MetaMapError, match="2 tasks or more"):
        ridges(np.ones((1, 2)), np.ones((1, 1)))
