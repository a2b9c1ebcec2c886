"""Figures of the experiment in service, on arrays whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metamap_envs import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.evaluation.service.decision import DecisionRule
from metamap_rl.evaluation.service.figures import (
    Recovery,
    Stretch,
    alarms_of,
    gap_share,
    harmed,
    recoveries,
    regret_after_changes,
    share_difference,
    stretches,
    survival,
    worst_share,
)
from metamap_rl.evaluation.service.trials import draw_trials, schedule_of

N, STEPS = 4, 400
BASE, ORACLE = np.full((STEPS, N), -1.0), np.zeros((STEPS, N))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def changes(*where: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = np.zeros((STEPS, N), dtype=np.bool_)
    for step, trial in where:
        found[step, trial] = True
    return found


def test_shares_are_ratios_of_sums_over_all_steps_and_zoos() -> None:
    half = np.full((STEPS, N), -0.5)
    share = gap_share([half], [BASE], [ORACLE], generator())
    assert share is not None
    assert (share.estimate, share.low, share.high) == pytest.approx((0.5, 0.5, 0.5))
    wide = 3 * BASE  # a zoo with a gap three times as large weighs three times as much
    both = gap_share([half, wide], [BASE, wide], [ORACLE, ORACLE], generator())
    assert both is not None
    assert both.estimate == pytest.approx(0.5 / 4)
    assert gap_share([half], [BASE], [BASE], generator()) is None
    better = share_difference([ORACLE], [half], [BASE], [ORACLE], generator())
    assert better is not None
    assert better.estimate == pytest.approx(0.5)
    with pytest.raises(MetaMapError, match="same shapes"):
        gap_share([half[:-1]], [BASE], [ORACLE], generator())
    with pytest.raises(MetaMapError, match="same shapes"):
        gap_share([], [], [], generator())


def test_the_mean_of_the_worst_share_over_all_trials_is_the_share() -> None:
    rewards = np.array([0.0, -0.2, -1.0, -2.0]) + np.zeros((STEPS, N))
    assert worst_share([rewards], [BASE], [ORACLE]) == pytest.approx(-1.0)
    assert worst_share([rewards], [ORACLE], [ORACLE]) is None


def test_regret_counts_at_most_200_steps_and_stops_at_the_next_change() -> None:
    rewards = np.full((STEPS, N), -0.5)
    found = regret_after_changes([rewards], [ORACLE], [changes((100, 0), (150, 0), (390, 1))], generator())
    assert found is not None
    assert found.estimate == pytest.approx(0.5 * (50 + 200 + 10) / 3)
    assert regret_after_changes([rewards], [ORACLE], [changes()], generator()) is None


def test_stretches_are_the_tasks_of_each_trial() -> None:
    flags = changes((100, 0), (150, 0))[:, :2]
    assert list(stretches(flags)) == [
        Stretch(0, 0, 100),
        Stretch(0, 100, 150),
        Stretch(0, 150, 400),
        Stretch(1, 0, 400),
    ]
    assert list(stretches(flags, first=False)) == [Stretch(0, 100, 150), Stretch(0, 150, 400)]


def test_recovery_is_the_first_step_after_which_20_steps_close_90_percent() -> None:
    noise = 0.01 * np.random.default_rng(0).normal(size=(STEPS, N))
    base, oracle, rewards = BASE + noise, ORACLE + noise, ORACLE + noise
    flags = changes((100, 0), (100, 1), (370, 2), (100, 3))
    rewards[100:130, 0] = -1.0
    rewards[100:, 1] = -1.0
    base[100:, 3] = oracle[100:, 3]  # no gap: nothing to recover
    found = recoveries(rewards, base, oracle, flags)  # the task of trial 2 is too short
    assert found.trials.tolist() == [0, 1]
    assert found.censored.tolist() == [False, True]
    assert 28 <= found.steps[0] <= 30  # 2 of 20 bad steps are still 90 %
    assert found.steps[1] == 300 - 20 + 1


def test_kaplan_meier_by_hand() -> None:
    steps, censored = np.array([1, 2, 2, 3, 4]), np.array([False, False, True, False, True])
    left, median = survival(Recovery(steps, censored, np.zeros(5, dtype=np.int64)), (0, 1, 2, 3, 100))
    assert left == pytest.approx([1.0, 0.8, 0.6, 0.3, 0.3])
    assert median == 3
    never = Recovery(steps, np.ones(5, dtype=np.bool_), np.zeros(5, dtype=np.int64))
    assert survival(never, (5,)) == ([1.0], None)
    with pytest.raises(MetaMapError, match="at least one change"):
        survival(Recovery(steps[:0], censored[:0], steps[:0]), (5,))


def test_harm_is_a_test_on_each_task() -> None:
    noise = np.random.default_rng(0).normal(size=(STEPS, N))
    rewards = BASE.copy()
    rewards[200:, 0] -= 3.0
    rewards[:, 1] += 3.0
    found = harmed(rewards + noise, BASE + noise[::-1], changes((200, 0), (390, 2)))
    assert found.tolist() == [False, True, False, False, False]  # the ten steps at the end of trial 2 are no task


def test_a_cut_is_a_false_alarm_where_its_window_holds_one_task() -> None:
    changed = np.zeros(30, dtype=np.bool_)
    changed[[10, 20]] = True
    begins, cut = np.zeros(30, dtype=np.int64), np.zeros(30, dtype=np.bool_)
    cut[[5, 12, 14, 17]] = True
    begins[5:], begins[12:], begins[14:], begins[17:] = 4, 9, 10, 16
    found = alarms_of(begins, cut, changed)
    assert (found.cuts, found.false) == (
        4,
        2,
    )  # in 5 nothing had changed, in 14 one transition was left of the old task
    assert (found.noticed, found.delays) == (1, (3,))
    assert found.quiet == 10 + 5  # before the first change, and from the cut that found it to the second change
    none = alarms_of(begins, cut, np.zeros(30, dtype=np.bool_))
    assert (none.false, none.quiet, none.noticed) == (4, 30, 0)


def test_trials_are_paired_and_independent_of_their_number() -> None:
    family = get_family("cheetah-actuators")
    schedule = schedule_of("validation", hazard=0.05, changes=())
    few, many = (draw_trials(family, schedule, steps=60, trials=n, entropy=[0, 1]) for n in (2, 3))
    assert [row[:2] for row in many.tasks] == list(few.tasks)
    assert many.seeds[:2] == few.seeds
    assert few.digest == draw_trials(family, schedule, steps=60, trials=2, entropy=[0, 1]).digest
    assert few.digest != draw_trials(family, schedule, steps=60, trials=2, entropy=[0, 2]).digest
    assert few.changed[0].sum() == 0
    assert few.changed.any()
    assert {task.split for row in few.tasks for task in row} == {"validation"}
    once = draw_trials(family, schedule_of("validation", hazard=0, changes=(7,)), steps=20, trials=2, entropy=[0])
    assert [np.flatnonzero(column).tolist() for column in once.changed.T] == [[7], [7]]
    with pytest.raises(MetaMapError, match="at least 1 step"):
        draw_trials(family, schedule, steps=0, trials=1, entropy=[0])


def result(adapter: float, sysid: float, low: float = 0.01, high: float = 0.03) -> dict[str, Any]:
    methods = {"adapter": {"share": adapter}, "sysid": {"share": sysid}, "estimate": {"share": adapter - 0.02}}
    return {"methods": methods, "differences": {"estimate": {"estimate": 0.02, "low": low, "high": high}}}


def test_the_decision_rule() -> None:
    rule = DecisionRule()
    good = {name: result(0.9, 0.94) for name in rule.families}
    assert rule.verdict(good)["adapts"] is None  # the delay family is open
    whole = {**good, rule.unmodelled: result(0.5, 0.4)}
    found = rule.verdict(whole)
    assert found["adapts"] is True
    assert found["needed_on"] == list(whole)
    one_bad = {**whole, rule.families[0]: result(0.79, 0.5)}
    assert rule.verdict(one_bad)["adapts"] is True
    assert rule.verdict({**one_bad, rule.families[1]: result(0.9, 0.96)})["adapts"] is False
    assert rule.verdict({rule.unmodelled: result(0.5, 0.5)})["adapts"] is False
    assert rule.verdict({**whole, rule.families[0]: result(0.9, 0.9, -0.01, 0.05)})["needed_on"] == list(whole)[1:]
    assert "not decided" in rule.verdict({})["sentences"][0]
