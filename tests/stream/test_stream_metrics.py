"""Metrics of streams, against matrices worked out by hand and against what must hold for any matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.metrics import (
    COSTS,
    FORMULAS,
    METRICS,
    TRANSFER,
    ap,
    ap_anytime,
    ap_final,
    bwt,
    bwt_families,
    f_cw,
    f_iso,
    f_last,
    f_max,
    fwt_zs,
    gap,
    gen,
    growth,
    kept,
    nbt,
    plasticity,
    pm,
    regret,
    so_far,
)

Matrix = NDArray[np.float64]

HAND = np.array(
    [
        [0.1, 0.2, 0.3],  # the initial mapper
        [0.8, 0.4, 0.2],
        [0.9, 1.0, 0.5],
        [0.5, 0.7, 0.9],
    ]
)


def matrices(least: int = 2) -> st.SearchStrategy[Matrix]:
    scores = st.floats(-10, 10)
    return st.integers(least, 6).flatmap(lambda tasks: arrays(np.float64, (tasks + 1, tasks), elements=scores))


def test_ap_final_by_hand() -> None:
    assert ap_final(HAND) == pytest.approx((0.5 + 0.7 + 0.9) / 3)


def test_f_last_by_hand() -> None:
    assert f_last(HAND) == pytest.approx(((0.8 - 0.5) + (1.0 - 0.7)) / 2)


def test_f_max_by_hand() -> None:
    # Task 1 was best after stage 2 (.9); task 2 at stage 2, as the last stage itself does not count.
    assert f_max(HAND) == pytest.approx(((0.9 - 0.5) + (1.0 - 0.7)) / 2)


def test_f_max_leaves_out_the_stages_before_a_task_was_learnt() -> None:
    R = HAND.copy()
    R[0, :] = R[1, 1] = 100.0
    assert f_max(R) == pytest.approx(f_max(HAND))


def test_ap_anytime_by_hand() -> None:
    assert ap_anytime(HAND) == pytest.approx((0.8 + 0.95 + 0.7) / 3)


def test_f_cw_by_hand() -> None:
    assert f_cw(HAND) == pytest.approx((0.3 + 0.3 + 0.0) / 3)


def test_f_iso_by_hand() -> None:
    # Stage 2 on task 1, then stage 3 on tasks 1 and 2.
    assert f_iso(HAND) == pytest.approx(((0.8 - 0.9) + (0.9 - 0.5) + (1.0 - 0.7)) / 3)


def test_nbt_by_hand() -> None:
    assert nbt(HAND) == pytest.approx((((0.8 - 0.9) + (0.8 - 0.5)) / 2 + (1.0 - 0.7)) / 2)


def test_regret_by_hand() -> None:
    assert regret(HAND) == pytest.approx(((1 - 0.1) + (1 - 0.4) + (1 - 0.5)) / 3)


def test_plasticity_by_hand() -> None:
    assert plasticity(HAND) == pytest.approx((0.9 - 0.8) / 2)
    assert plasticity([[0, 0], [0.5, 0], [0, 0.25]]) == pytest.approx(-0.25)


def test_kept_by_hand() -> None:
    np.testing.assert_allclose(kept(HAND), [0.0, ((0.9 - 0.8) + (0.7 - 1.0)) / 2, 0.5 - 0.8])
    R = HAND.copy()
    R[2, 0] = np.nan
    np.testing.assert_allclose(kept(R), [0.0, np.nan, 0.5 - 0.8])


def test_bwt_by_hand() -> None:
    assert bwt(HAND) == pytest.approx(((0.5 - 0.8) + (0.7 - 1.0)) / 2)


def test_fwt_zs_by_hand() -> None:
    assert fwt_zs(HAND) == pytest.approx(((0.4 - 0.2) + (0.5 - 0.3)) / 2)


def test_ap_by_hand() -> None:
    np.testing.assert_allclose(ap(HAND), [0.8, (0.9 + 1.0) / 2, (0.5 + 0.7 + 0.9) / 3])


def test_gen_by_hand() -> None:
    np.testing.assert_allclose(gen([[0.0, 0.5], [0.25, 0.75], [1.0, 1.0]]), [0.25, 0.5, 1.0])


def test_bwt_families_by_hand() -> None:
    H = [[0, 0, 0], [0.8, 0, 0], [0.9, 0.1, 0], [0.6, 0.7, 0.2]]
    # Stages: a, a, b. Tasks of a were last taught at stage 2; b ends with the stream; nothing is known of c.
    assert bwt_families(H, ["a", "b", "c"], ["a", "a", "b"]) == pytest.approx(0.6 - 0.9)
    # A family that comes back is earlier only if another one ends the stream.
    assert bwt_families(H, ["a", "b", "c"], ["a", "b", "a"]) == pytest.approx(0.7 - 0.1)
    with pytest.raises(MetaMapError, match="no held-out task"):
        bwt_families(H, ["a", "b", "c"], ["c", "c", "c"])


@given(matrices())
def test_bwt_is_minus_f_last(R: Matrix) -> None:
    assert bwt(R) == -f_last(R)


@given(matrices())
def test_f_max_is_at_least_f_last(R: Matrix) -> None:
    assert f_max(R) >= f_last(R) - 1e-12


@given(matrices())
def test_metrics_of_one_family_agree(R: Matrix) -> None:
    T = R.shape[1]
    assert pm(R) == -nbt(R)
    assert f_cw(R) == pytest.approx(f_last(R) * (T - 1) / T, abs=1e-9)
    assert ap_anytime(R) == pytest.approx(ap(R).mean(), abs=1e-9)
    assert plasticity(R) == pytest.approx(np.polyfit(range(T), np.diagonal(R, -1), 1)[0], abs=1e-9)
    # Isolated forgetting adds up to what was lost in the end.
    assert f_iso(R) * T * (T - 1) / 2 == pytest.approx(f_last(R) * (T - 1), abs=1e-9)


@given(matrices())
def test_they_are_the_published_formulas(R: Matrix) -> None:
    N = R.shape[1]
    # Continual World: p_i(t) is the score on task i at time t, which is measured at the ends of tasks, t = i D.
    p = [lambda t, i=i: R[t, i - 1] for i in range(1, N + 1)]
    assert f_cw(R) == pytest.approx(sum(p[i - 1](i) - p[i - 1](N) for i in range(1, N + 1)) / N, abs=1e-9)
    # l2metrics: blocks of training (task) and evaluation (all tasks) by turns; reference is the evaluation that follows
    # the task's training, and each later evaluation counts its difference from it.
    blocks = [(kind, stage) for stage in range(1, N + 1) for kind in ("train", "test")]
    maintained = []
    for task in range(1, N + 1):
        tests = [number for number, (kind, _) in enumerate(blocks) if kind == "test"]
        training = blocks.index(("train", task))
        reference = next(number for number in tests if number > training)
        values = [R[blocks[n][1], task - 1] - R[blocks[reference][1], task - 1] for n in tests if n > reference]
        maintained += [np.mean(values)] if values else []
    assert pm(R) == pytest.approx(np.mean(maintained), abs=1e-9)
    # CORA: F_{i,j} = r_{i,j-1,end} - r_{i,j,end} for i < j, what learning task j takes from task i.
    isolated = [R[j - 1, i - 1] - R[j, i - 1] for i in range(1, N + 1) for j in range(i + 1, N + 1)]
    assert f_iso(R) == pytest.approx(np.mean(isolated), abs=1e-9)


@given(matrices(), st.floats(-5, 5))
def test_a_mapper_that_never_changes_neither_forgets_nor_transfers(R: Matrix, shift: float) -> None:
    frozen = np.tile(R[0] + shift, (len(R), 1))
    for name in ("F_last", "F_max", "F_cw", "F_iso", "BWT", "NBT", "PM", "FWT_zs"):
        assert METRICS[name](frozen) == 0
    assert ap_final(frozen) == pytest.approx(frozen[0].mean())


@given(matrices(), st.data())
def test_scores_that_all_rise_by_one_amount_change_the_average_only(R: Matrix, data: st.DataObject) -> None:
    shift = data.draw(st.floats(-5, 5))
    for name, metric in METRICS.items():
        sign = {"AP_final": 1, "AP_anytime": 1, "REG_dyn": -1}.get(name, 0)
        assert metric(R + shift) == pytest.approx(metric(R) + sign * shift, abs=1e-9)


@given(matrices())
def test_metrics_are_linear_or_scale_with_the_scores(R: Matrix) -> None:
    for name, metric in METRICS.items():
        zero = 1.0 if name == "REG_dyn" else 0.0  # the regret of a score of 0
        assert metric(3.0 * R) - zero == pytest.approx(3.0 * (metric(R) - zero), abs=1e-9)


@given(matrices())
def test_ap_ends_with_ap_final(R: Matrix) -> None:
    assert ap(R)[-1] == pytest.approx(ap_final(R), abs=1e-12)
    assert ap(R)[0] == R[1, 0]


@given(matrices(), st.data())
def test_the_average_of_streams_is_the_stream_of_averages(R: Matrix, data: st.DataObject) -> None:
    other = data.draw(arrays(np.float64, R.shape, elements=st.floats(-10, 10)))
    for name, metric in METRICS.items():
        if name != "F_max":  # the maximum is not linear
            assert metric((R + other) / 2) == pytest.approx((metric(R) + metric(other)) / 2, abs=1e-9)


@given(matrices())
def test_only_the_entries_of_the_formula_matter(R: Matrix) -> None:
    T = R.shape[1]
    stages, tasks = np.indices(R.shape)
    used = {
        "AP_final": stages == T,
        "F_last": ((stages == T) | (stages == tasks + 1)) & (tasks < T - 1),
        "F_max": (stages >= tasks + 1) & (tasks < T - 1),
        "FWT_zs": ((stages == 0) | (stages == tasks)) & (tasks >= 1),
        "AP_anytime": stages > tasks,
        "F_cw": (stages == T) | (stages == tasks + 1),
        "REG_dyn": stages == tasks,
        "PLA": stages == tasks + 1,
    }
    used |= {"BWT": used["F_last"], "F_iso": used["F_max"] | ((stages == T) & (tasks < T - 1))}
    used["F_max"] = used["F_iso"]
    used["NBT"] = used["PM"] = used["F_iso"]
    for name, metric in METRICS.items():
        assert metric(np.where(used[name], R, np.nan)) == metric(R)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_score_that_was_not_measured_is_named(name: str) -> None:
    needed = {
        "AP_final": (3, 2),
        "AP_anytime": (2, 0),
        "F_last": (2, 1),
        "F_max": (2, 0),
        "F_cw": (3, 2),
        "F_iso": (2, 0),
        "BWT": (3, 0),
        "NBT": (2, 0),
        "PM": (2, 0),
        "FWT_zs": (1, 1),
        "REG_dyn": (2, 2),
        "PLA": (3, 2),
    }[name]
    R = HAND.copy()
    R[needed] = np.nan
    said = "F_last" if name == "BWT" else name
    sentence = f"{said} needs the score on task {needed[1] + 1} after stage {needed[0]}, which was not measured"
    with pytest.raises(MetaMapError, match=sentence):
        METRICS[name](R)
    R[needed] = np.inf
    with pytest.raises(MetaMapError, match="which is inf"):
        METRICS[name](R)


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("R", [np.zeros((3, 3)), np.zeros((2, 3)), np.zeros(4), np.zeros((1, 0))])
def test_another_shape_is_refused(name: str, R: Matrix) -> None:
    with pytest.raises(MetaMapError, match="expected"):
        METRICS[name](R)


def test_one_task_has_an_average_and_nothing_else() -> None:
    R = [[0.0], [0.5]]
    assert ap_final(R) == 0.5
    assert (ap_anytime(R), f_cw(R), regret(R)) == (0.5, 0.0, 1.0)
    for name in ("F_last", "F_max", "F_iso", "BWT", "NBT", "PM", "FWT_zs", "PLA"):
        with pytest.raises(MetaMapError, match="expected at least 2 tasks, got 1"):
            METRICS[name](R)


def test_so_far_cuts_the_stream_short() -> None:
    np.testing.assert_array_equal(so_far(HAND, 2), HAND[:3, :2])
    assert so_far(HAND, 0).shape == (1, 0)
    with pytest.raises(MetaMapError, match=r"at least \[5, 4\]"):
        so_far(HAND, 4)


def test_gen_of_unmeasured_stages_is_nan() -> None:
    np.testing.assert_array_equal(gen([[0.0, 0.5], [np.nan, 0.5]]), [0.25, np.nan])
    for H in (np.zeros((3, 0)), np.zeros(3), np.full((2, 2), np.inf)):
        with pytest.raises(MetaMapError, match="GEN_k"):
            gen(H)


def test_gap_is_the_mean_over_tasks_that_have_one() -> None:
    assert gap([0.5, 1.0, -0.9]) == pytest.approx(0.2)
    for G in ([], [0.5, np.nan], [[0.5]]):
        with pytest.raises(MetaMapError, match="GAP_k"):
            gap(G)


def test_growth_compares_last_with_first() -> None:
    assert growth([1.0] * 10 + [99.0] + [2.0] * 10) == 2.0
    with pytest.raises(MetaMapError, match="at least 20 stages, got 19"):
        growth([1.0] * 19)
    with pytest.raises(MetaMapError, match="positive"):
        growth([0.0] * 20)


def test_every_metric_has_a_formula() -> None:
    for name in (*METRICS, *TRANSFER, *COSTS, "BWT_families", "GEN_k", "GAP_k", "PR"):
        assert FORMULAS[name], name
