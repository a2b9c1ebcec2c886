"""Metrics of learning curves and of costs, by hand and against the formulas of Continual World and l2metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.metrics import COSTS, TRANSFER, abc, area, ft_auc, jump_start, pr, recovery_time

X = [0.0, 100.0, 300.0]
OURS = np.array([[0.2, 0.6, 0.8], [0.0, 0.5, 0.5]])
ALONE = np.array([[0.0, 0.4, 0.6], [0.0, 0.5, 0.5]])
# Areas: (.4 * 100 + .7 * 200) / 300 = .6 and (.25 * 100 + .5 * 200) / 300 = 5/12; alone .4 and 5/12.


def test_areas_by_hand() -> None:
    np.testing.assert_allclose(area(X, OURS), [0.6, 5 / 12])
    np.testing.assert_allclose(area(X, ALONE), [0.4, 5 / 12])


def test_transfer_by_hand() -> None:
    assert ft_auc(X, OURS, ALONE) == pytest.approx((0.2 / 0.6 + 0.0) / 2)
    assert abc(X, OURS, ALONE) == pytest.approx(0.1)
    assert jump_start(X, OURS, ALONE) == pytest.approx(0.1)


@given(arrays(np.float64, (3, 101), elements=st.floats(0, 1)), arrays(np.float64, (3, 101), elements=st.floats(0, 0.9)))
def test_on_an_even_grid_it_is_the_published_forward_transfer(
    ours: NDArray[np.float64], alone: NDArray[np.float64]
) -> None:
    # Continual World: AUC_i = 1/D int_{(i-1)D}^{iD} p_i(t) dt, FT = 1/N sum_i (AUC_i - AUC_i^b) / (1 - AUC_i^b).
    def integral(p: NDArray[np.float64]) -> float:
        return float(sum((p[k] + p[k + 1]) / 2 * 0.01 for k in range(100)))

    published = np.mean([(integral(p) - integral(b)) / (1 - integral(b)) for p, b in zip(ours, alone, strict=True)])
    assert ft_auc(np.linspace(0, 1_000_000, 101), ours, alone) == pytest.approx(published, abs=1e-9)


@given(arrays(np.float64, (2, 5), elements=st.floats(-5, 0.9)))
def test_a_learner_like_its_baseline_transfers_nothing(curves: NDArray[np.float64]) -> None:
    assert [metric([1, 2, 4, 8, 16], curves, curves) for metric in TRANSFER.values()] == [0, 0, 0]


def test_where_nothing_is_left_to_gain_ft_auc_is_refused_and_abc_is_not() -> None:
    with pytest.raises(MetaMapError, match="area on task 1 is 1: nothing is left to gain"):
        ft_auc([0, 1], [[0.5, 0.5]], [[1.0, 1.0]])
    assert abc([0, 1], [[0.5, 0.5]], [[1.0, 1.0]]) == -0.5


@pytest.mark.parametrize("name", sorted(TRANSFER))
def test_what_does_not_fit_is_named(name: str) -> None:
    metric = TRANSFER[name]
    with pytest.raises(MetaMapError, match=f"{name}: expected at least two rising points"):
        metric([0, 0], [[0, 0]], [[0, 0]])
    with pytest.raises(MetaMapError, match=rf"{name}: expected curves \[T, 2\]"):
        metric([0, 1], [[0, 0, 0]], [[0, 0]])
    with pytest.raises(MetaMapError, match=f"{name} needs the score on task 1 at x = 1"):
        metric([0, 1], [[0, np.nan]], [[0, 0]])
    with pytest.raises(MetaMapError, match=f"{name}: expected a baseline for each of 1 tasks, got 2"):
        metric([0, 1], [[0, 0]], [[0, 0], [0, 0]])


def test_recovery_by_hand() -> None:
    assert recovery_time(X, OURS[0], 0.5) == 100
    assert recovery_time(X, OURS[0], 0.2) == 0
    assert recovery_time(X, OURS[0], 0.9) == 301  # never
    with pytest.raises(MetaMapError, match="PR needs the score on the task when it was last learnt"):
        recovery_time(X, OURS[0], np.nan)


def test_performance_recovery_is_minus_the_theil_sen_slope_averaged_over_tasks() -> None:
    # Slopes of pairs of the first: -10, -20, -30, median -20; of the second: 5. Coming back once tells nothing.
    assert pr([[50, 40, 10], [10, 15], [7]]) == pytest.approx(-(-20 + 5) / 2)
    with pytest.raises(MetaMapError, match="at least twice"):
        pr([[3], []])


def test_costs_by_hand() -> None:
    costs = {name: cost([1.0, 2.0, 6.0]) for name, cost in COSTS.items()}
    assert costs == {"MEM": 6.0, "UPD": 3.0, "LAT": 2.0, "ENV": 9.0}
    for name, cost in COSTS.items():
        for wrong in ([], [1.0, np.nan], [-1.0], [[1.0]]):
            with pytest.raises(MetaMapError, match=name):
                cost(wrong)
