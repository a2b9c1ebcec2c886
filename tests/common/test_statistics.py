from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_envs.errors import MetaMapError
from metamap_rl.common.profiles import performance_profile, probability_of_improvement
from metamap_rl.common.resampling import mean_of_ranks, multiplicities
from metamap_rl.common.statistics import (
    Interval,
    aggregates_of_zoos,
    bootstrap_interval,
    iqm,
    rate_of_zoos,
    ratio_of_sums,
    ratio_of_zoos,
    worst_decile,
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


# --------------------------------------------------------------------------------------------------- several zoos

shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=4)


@given(shapes, st.integers(0, 99))
def test_a_resample_is_of_as_many_zoos_each_with_its_seeds_and_tasks(sizes: list[tuple[int, int]], seed: int) -> None:
    counts = multiplicities(sizes, 5, generator(seed))
    assert counts.shape == (5, sum(seeds * tasks for seeds, tasks in sizes))
    blocks = np.split(counts, np.cumsum([seeds * tasks for seeds, tasks in sizes])[:-1], axis=1)
    copies = np.array([block.sum(axis=1) / (s * t) for block, (s, t) in zip(blocks, sizes, strict=True)])
    np.testing.assert_array_equal(copies, np.round(copies), err_msg="a drawn zoo comes whole")
    np.testing.assert_array_equal(copies.sum(axis=0), len(sizes))
    for block, (s, t), of_zoo in zip(blocks, sizes, copies, strict=True):
        for row in block[of_zoo == 1].reshape(-1, s, t):
            assert np.linalg.matrix_rank(row) == 1, "seeds and tasks are crossed"


@given(st.lists(finite, min_size=2, max_size=30), st.integers(0, 99))
def test_statistics_of_multiplicities_are_those_of_the_scores_drawn(values: list[float], seed: int) -> None:
    ordered = np.sort(values)
    counts = multiplicities([(1, len(values))], 3, generator(seed))
    drawn = [np.repeat(ordered, row) for row in counts]
    total = counts.sum(axis=1)
    quarter, tenth = total // 4, -(-total // 10)
    none = np.zeros_like(total)
    by_hands = (iqm, quarter, total - quarter), (np.mean, none, total), (worst_decile, none, tenth)
    for by_hand, first, last in by_hands:
        found = mean_of_ranks(ordered, counts, first, last)
        np.testing.assert_allclose(found, [by_hand(one) for one in drawn], atol=1e-6, rtol=1e-9)


def test_one_zoo_has_the_two_way_interval() -> None:
    scores = generator(1).normal(size=(3, 16))
    found = aggregates_of_zoos([scores], generator(4))
    assert found["iqm"] == bootstrap_interval(scores, generator(4))
    assert found["mean"] == bootstrap_interval(scores, generator(4), trimmed=0.0)
    assert found["worst_decile"].estimate == pytest.approx(worst_decile(scores))
    assert found["worst_decile"].low < found["worst_decile"].estimate < found["worst_decile"].high


def test_two_zoos_of_one_score_by_hand() -> None:
    # Two draws from {0, 1}: means 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4, as for two seeds above.
    zoos = [[[0.0]], [[1.0]]]
    wide = aggregates_of_zoos(zoos, generator())["mean"]
    assert (wide.low, wide.estimate, wide.high, wide.zoos, wide.seeds, wide.tasks) == (0.0, 0.5, 1.0, 2, 1, 2)
    narrow = aggregates_of_zoos(zoos, generator(), level=0.4)["mean"]
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_what_differs_between_zoos_is_in_the_interval() -> None:
    """Each zoo alone has no width; three of them do. Zoos may have other numbers of seeds and tasks."""
    zoos = [np.full((2, 5), 0.9), np.full((3, 4), 0.8), np.full((3, 6), 0.1)]
    found = aggregates_of_zoos(zoos, generator())
    assert found["mean"].estimate == pytest.approx((10 * 0.9 + 12 * 0.8 + 18 * 0.1) / 40)
    assert found["mean"].low == pytest.approx(0.1)
    assert found["mean"].high == pytest.approx(0.9)
    assert (found["iqm"].seeds, found["iqm"].tasks) == (3, 15)


def test_zoos_and_one_big_zoo_are_not_the_same() -> None:
    """Seeds are nested: pooled as rows of one matrix, seed 0 of all zoos would be one mapper."""
    draws = generator(2)
    zoos = [draws.normal(size=()) + 0.1 * draws.normal(size=(3, 16)) for _ in range(3)]
    nested = aggregates_of_zoos(zoos, generator())["mean"]
    crossed = bootstrap_interval(np.concatenate(zoos, axis=1), generator(), trimmed=0.0)
    assert nested.estimate == pytest.approx(crossed.estimate)
    assert nested.high - nested.low > 1.5 * (crossed.high - crossed.low)


def test_the_ratio_of_sums_of_zoos_by_hand() -> None:
    # Gains are means over the seeds of their zoo: (2 + 0) + (1 + 5) / 2 = 5, of gaps 4 + 0 + 4 = 8.
    found = ratio_of_zoos([[[2.0, 0.0]], [[1.0], [5.0]]], [[4.0, 0.0], [4.0]], generator())
    assert found is not None
    assert found.estimate == pytest.approx(5 / 8)
    gaps = [generator(seed).uniform(1, 9, size=6) for seed in range(3)]
    even = ratio_of_zoos([np.outer([0.4, 0.6], gap) for gap in gaps], gaps, generator())
    assert even is not None
    assert even.estimate == pytest.approx(0.5)
    assert even.low is not None
    assert 0.4 <= even.low < 0.5
    alike = ratio_of_zoos([0.5 * gap[None] for gap in gaps], gaps, generator())
    assert alike is not None
    assert (alike.low, alike.high) == (pytest.approx(0.5), pytest.approx(0.5))
    scores = generator(1).normal(size=(3, 6))
    assert ratio_of_zoos([scores], [gaps[0]], generator()) == ratio_of_sums(scores, gaps[0], generator())
    assert ratio_of_zoos([scores, scores], [gaps[0], -gaps[0]], generator()) is None


def test_no_harm_in_a_few_tasks_is_no_proof_of_none() -> None:
    never = rate_of_zoos([np.zeros((3, 16), dtype=bool)], generator())
    assert (never.low, never.estimate) == (0.0, 0.0)
    assert never.high == pytest.approx(1 - 0.025 ** (1 / 16)), "three seeds are not three times as many tasks"
    always = rate_of_zoos([np.ones((1, 16), dtype=bool)], generator())
    assert (always.low, always.estimate, always.high) == (pytest.approx(1 - never.high), 1.0, 1.0)
    some = np.zeros((3, 16), dtype=bool)
    some[:, :4] = True
    found = rate_of_zoos([some, some, some], generator())
    crossed = aggregates_of_zoos([some, some, some], generator())["mean"]
    assert found.low <= crossed.low < found.estimate == 0.25 < crossed.high <= found.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aggregates_of_zoos([], generator()), "of each zoo"),
        (lambda: aggregates_of_zoos([[1.0, 2.0]], generator()), "of each zoo"),
        (lambda: aggregates_of_zoos([[[1.0]], [[np.inf]]], generator()), "are not finite"),
        (lambda: aggregates_of_zoos([[[1.0]]], generator(), level=1.0), "level must lie in"),
        (lambda: ratio_of_zoos([[[1.0]]], [[1.0, 2.0]], generator()), "tasks.* of each zoo"),
        (lambda: ratio_of_zoos([[[1.0]]], [], generator()), "of each zoo"),
        (lambda: rate_of_zoos([], generator()), "of each zoo"),
    ],
)
def test_scores_of_zoos_that_do_not_fit_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(("between", "low", "high"), [(0.0, 0.95, 1.0), (0.3, 0.89, 0.97), (1.0, 0.73, 0.87)])
def test_three_zoos_cover(between: float, low: float, high: float) -> None:
    """The coverage that `metamap_rl.common.resampling` states, for a standard deviation of zoos in that of tasks."""
    draws, covered = generator(5), []
    for _ in range(400):
        zoos = [
            between * draws.normal()
            + 0.3 * draws.normal(size=(3, 1))
            + draws.normal(size=(1, 16))
            + 0.3 * draws.normal(size=(3, 16))
            for _ in range(3)
        ]
        found = aggregates_of_zoos(zoos, draws, resamples=400)["iqm"]
        covered.append(found.low <= 0 <= found.high)
    assert low <= np.mean(covered) <= high
