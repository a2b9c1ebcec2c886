from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_envs.errors import MetaMapError
from metamap_rl.common.profiles import performance_profile, probability_of_improvement
from metamap_rl.common.statistics import (
    Interval,
    bootstrap_interval,
    iqm,
)

finite = st.floats(-1e6, 1e6)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # floor(3 / 4) = 0 dropped at each end
        ([100.0, 2.0, 3.0, -50.0], 2.5),  # 1 dropped at each end
        ([0, 1, 2, 3, 4, 5, 6, 70], 3.5),  # 2 dropped at each end: (2 + 3 + 4 + 5) / 4
        ([[9.0, 1.0], [2.0, 4.0]], 3.0),  # flattened: (2 + 4) / 2
    ],
)
def test_iqm_worked_out_by_hand(values: list[float], expected: float) -> None:
    assert iqm(values) == pytest.approx(expected)


@given(st.lists(finite, min_size=1, max_size=40), finite)
def test_iqm_lies_inside_and_moves_along(values: list[float], shift: float) -> None:
    assert min(values) - 1e-6 <= iqm(values) <= max(values) + 1e-6
    assert iqm(np.array(values) + shift) == pytest.approx(iqm(values) + shift, abs=1e-6)
    assert iqm(values[::-1]) == pytest.approx(iqm(values), abs=1e-6)


def test_constant_scores_have_no_uncertainty() -> None:
    result = bootstrap_interval(np.full((3, 5), 2.0), generator())
    assert (result.estimate, result.low, result.high) == (2.0, 2.0, 2.0)
    assert str(result) == "2.00 [2.00, 2.00]"


def test_seeds_and_tasks_are_drawn_apart() -> None:
    # Each task's seeds agree, the tasks do not: no draw of seeds changes anything.
    scores = np.tile([0.0, 1.0, 2.0, 3.0], (3, 1))
    within = bootstrap_interval(scores, generator(), resampled="seeds")
    assert (within.low, within.high) == (1.5, 1.5)
    across = bootstrap_interval(scores, generator(), resampled="tasks")
    assert across.low < 1.0
    assert across.high > 2.0


def test_two_seeds_of_one_task_by_hand() -> None:
    # Means of two draws from {0, 1} are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: the 95 % interval is [0, 1],
    # the 40 % one, between quantiles .3 and .7, is [1/2, 1/2].
    scores = [[0.0], [1.0]]
    wide = bootstrap_interval(scores, generator(), resampled="seeds")
    assert (wide.low, wide.estimate, wide.high) == (0.0, 0.5, 1.0)
    narrow = bootstrap_interval(scores, generator(), resampled="seeds", level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_with_one_seed_both_is_tasks() -> None:
    scores = generator(1).normal(size=(1, 30))
    both = bootstrap_interval(scores, generator(), resamples=4000)
    tasks = bootstrap_interval(scores, generator(), resampled="tasks", resamples=4000)
    assert both.low == pytest.approx(tasks.low, abs=0.05)
    assert both.high == pytest.approx(tasks.high, abs=0.05)


def test_drawing_more_makes_a_wider_interval() -> None:
    scores = generator(1).normal(size=(4, 12)) + 3 * generator(2).normal(size=(1, 12))
    seeds = bootstrap_interval(scores, generator(), resampled="seeds")
    both = bootstrap_interval(scores, generator())
    assert both.high - both.low > seeds.high - seeds.low > 0
    assert both.low < both.estimate < both.high


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    draws = generator(3)
    intervals = [bootstrap_interval(draws.normal(size=(1, 40)), draws, level=0.9, resamples=300) for _ in range(200)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.82 <= covered <= 0.96


def test_the_interval_covers_what_differs_between_seeds() -> None:
    """A seed is one mapper for all tasks: where seeds differ much, many tasks do not tell the mean of seeds."""
    draws, covered = generator(5), []
    for _ in range(200):
        scores = draws.normal(size=(8, 1)) + 0.3 * draws.normal(size=(1, 16)) + 0.3 * draws.normal(size=(8, 16))
        interval = bootstrap_interval(scores, draws, level=0.9, resamples=300)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.75 <= np.mean(covered) <= 0.97  # seeds drawn within each task: 0.37


def test_same_generator_same_interval() -> None:
    scores = generator(1).normal(size=(3, 7))
    first, second = (bootstrap_interval(scores, generator(4), resamples=1500) for _ in range(2))
    assert first == second
    assert isinstance(first, Interval)
    assert (first.seeds, first.tasks, first.level, first.resampled) == (3, 7, 0.95, "seeds and tasks")


def test_nothing_trimmed_is_the_plain_mean_and_its_interval() -> None:
    scores = generator(1).exponential(size=(3, 20)) ** 3
    plain = bootstrap_interval(scores, generator(4), trimmed=0.0)
    assert plain.estimate == pytest.approx(scores.mean())
    assert plain.estimate > bootstrap_interval(scores, generator(4)).estimate
    assert plain.low < plain.estimate < plain.high


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([], {}, "at least one value"),
        ([1.0, 2.0], {}, r"expected \[seeds, tasks\], got shape \(2,\)"),
        ([[1.0, float("nan")]], {}, "1 of 2 values are not finite"),
        ([[1.0]], {"level": 1.0}, "level must lie in"),
        ([[1.0]], {"resamples": 0}, "resamples be at least 1"),
        ([[1.0]], {"trimmed": 0.5}, r"trimmed must lie in \[0, 0.5\)"),
        ([[1.0]], {"resampled": "seeds"}, "needs at least 2 seeds"),
        ([[1.0]], {"resampled": "task"}, "did you mean 'tasks'"),
    ],
)
def test_bad_input_is_reported(scores: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        bootstrap_interval(scores, generator(), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------- improvement and performance profiles


def test_probability_of_improvement_by_hand() -> None:
    # First task: 2 > {1, 3} half of the time, 4 always: 3/4. Second task: all ties: 1/2.
    found = probability_of_improvement([[2.0, 5.0], [4.0, 5.0]], [[1.0, 5.0], [3.0, 5.0]], generator())
    assert found.estimate == pytest.approx((0.75 + 0.5) / 2)
    assert found.low <= found.estimate <= found.high


def test_improvement_has_two_sides_and_may_have_other_numbers_of_seeds() -> None:
    ours, theirs = generator(1).normal(size=(3, 8)), generator(2).normal(size=(5, 8))
    there = probability_of_improvement(ours, theirs, generator())
    back = probability_of_improvement(theirs, ours, generator())
    assert there.estimate + back.estimate == pytest.approx(1.0)
    surely = probability_of_improvement(ours + 100, theirs, generator())
    assert (surely.estimate, surely.low, surely.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_an_improvement_covers_chance_where_there_is_none() -> None:
    draws = generator(3)
    intervals = [
        probability_of_improvement(draws.normal(size=(3, 20)), draws.normal(size=(3, 20)), draws, resamples=300)
        for _ in range(100)
    ]
    assert np.mean([interval.low <= 0.5 <= interval.high for interval in intervals]) >= 0.85


def test_a_profile_is_the_share_of_runs_above() -> None:
    found = performance_profile([[0.0, 1.0], [0.5, 2.0]], [-1.0, 0.0, 0.7, 2.0], generator())
    assert found.share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (found.low <= found.share).all()
    assert (found.share <= found.high).all()
    assert (found.low[0], found.high[3]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probability_of_improvement([[1.0]], [[1.0, 2.0]], generator()), "of the same tasks"),
        (lambda: probability_of_improvement([[np.nan]], [[1.0]], generator()), "are not finite"),
        (lambda: probability_of_improvement([[1.0]], [[1.0]], generator(), resamples=0), "resamples be at least 1"),
        (lambda: performance_profile([1.0], [0.0], generator()), "expected"),
    ],
)
def test_what_cannot_be_compared_is_reported(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        call()
