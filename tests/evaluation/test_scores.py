"""Which tasks have a gap, and what an average over them hides: facts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from helpers import tiny
from metamap_agents.policy.evaluation import LEVEL, clearly_better, clearly_better_each
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs import MetaMapError, get_family
from metamap_rl.common.harm import harmed_pairs
from metamap_rl.common.statistics import ratio_of_sums, worst_decile
from metamap_rl.evaluation.score_text import harm_text, ratio_text, uncounted_text
from metamap_rl.evaluation.scores import Evaluation, MethodScores, References
from metamap_rl.stream.scoreboard import Reference

RESULTS = Path(__file__).parents[2] / "docs" / "results"
TASKS = tuple(get_family(tiny.FAMILY).sample("test-in", 4, 0))


def noise(tasks: int = 4, episodes: int = 10) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(tasks, episodes))


# ------------------------------------------------------------------------------------------------- the paired test


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.integers(0, 99), st.floats(-5, 5))
def test_it_is_the_paired_t_test(base: list[float], seed: int, lead: float) -> None:
    ours = np.array(base) + lead + np.random.default_rng(seed).normal(size=len(base))
    found = ttest_rel(ours, base, alternative="greater")
    assert clearly_better(ours, base) == (found.pvalue < LEVEL)
    assert not (clearly_better(ours, base) and clearly_better(base, ours))


def test_every_task_has_a_test_of_its_own() -> None:
    base = 100.0 * noise()
    lead = np.array([[1.0], [0.0], [-1.0], [0.2]]) + 0.1 * noise()[::-1]
    assert clearly_better_each(base + lead, base).tolist() == [
        clearly_better(base[i] + lead[i], base[i]) for i in range(4)
    ]
    assert clearly_better_each(base + lead, base).tolist() == [True, False, False, True]
    assert clearly_better_each(np.stack([base + lead] * 3), np.stack([base] * 3)).shape == (3, 4)


def test_where_nothing_is_random_any_difference_counts_but_not_rounding() -> None:
    base = np.full(5, -300.0)
    assert clearly_better(base + 0.1, base)
    assert not clearly_better(base, base)
    assert not clearly_better(base + 4e-8, base), "batched arithmetic differs by as much on another machine"
    assert not clearly_better(np.nextafter(base, np.inf), base)


def test_one_episode_shows_nothing() -> None:
    assert not clearly_better([9.0], [1.0])


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([1.0, np.nan], [0.0, 0.0], "1 of 2 episodes are not finite"),
        ([1.0, 2.0], [0.0, np.inf], "1 of 2 episodes are not finite"),
        ([1.0, 2.0], [0.0], "of one shape"),
        ([], [], "of one shape"),
    ],
)
def test_what_cannot_be_tested_is_refused(ours: list[float], theirs: list[float], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        clearly_better(ours, theirs)


def test_few_tasks_without_a_gap_are_taken_for_one() -> None:
    generator = np.random.default_rng(0)
    same, better = generator.normal(size=(2, 4000, 10))
    assert clearly_better_each(same, better).mean() == pytest.approx(LEVEL, abs=0.01)
    assert clearly_better_each(same + 1.0 * np.sqrt(2), better).mean() == pytest.approx(0.80, abs=0.02)


# ------------------------------------------------------------------------------------------------ tasks with a gap


def boat() -> Evaluation:
    """A boat in wind: the expert halves the cost, and random actions are disastrous."""
    wind = 6.0 * noise()
    references = References(random=-1000.0 + 90.0 * noise()[::-1], base=-68.5 + wind, expert=-34.1 + wind / 2)
    return Evaluation.of(TASKS, references)


def test_disastrous_random_actions_take_no_task_away() -> None:
    evaluation = boat()
    assert evaluation.counted.tolist() == [True] * 4
    means_alone = Evaluation(TASKS, 10, evaluation.random, evaluation.base, evaluation.expert)
    assert means_alone.counted.sum() < 4, "the rule of old documents"
    assert (evaluation.counted_by, means_alone.counted_by) == ("paired test", "old rule")
    np.testing.assert_allclose(evaluation.gap_closed(evaluation.expert[None]), np.ones((1, 4)))


def test_random_actions_do_not_matter_and_a_lead_by_chance_does_not_count() -> None:
    base = 10.0 * noise()
    lead = np.array([[5.0], [0.0], [0.0], [-5.0]]) + noise()[::-1] - noise()[::-1].mean(axis=1, keepdims=True)
    counted = [
        Evaluation.of(TASKS, References(random, base, base + lead)).counted.tolist()
        for random in (base - 1e6, base + 1e6)
    ]
    assert counted == [[True, False, False, False]] * 2


def test_a_reference_of_a_stream_counts_as_the_test_says() -> None:
    assert Reference(-1000.0, -68.5, -34.1).gap_closed(-51.3) is None, "of an old run, whose episodes are not known"
    assert Reference(-1000.0, -68.5, -34.1, better=True).gap_closed(-51.3) == pytest.approx(0.5)
    assert Reference(0.0, 5.0, 10.0, better=False).gap_closed(7.5) is None
    assert Reference(0.0, 5.0, 10.0).gap_closed(7.5) == 0.5


# ------------------------------------------------------------------------------------- beside the interquartile mean


def test_the_ratio_of_sums_leaves_nothing_out() -> None:
    found = ratio_of_sums([[4.0, 0.0, 1.0], [2.0, 0.0, 1.0]], [8.0, 0.0, 2.0], np.random.default_rng(0))
    assert found is not None
    assert found.estimate == pytest.approx((6 / 2 + 0 + 1) / 10)
    even = ratio_of_sums(0.5 * np.arange(1.0, 9.0)[None], np.arange(1.0, 9.0), np.random.default_rng(0))
    assert even is not None
    assert (even.low, even.estimate, even.high) == pytest.approx((0.5, 0.5, 0.5))


def test_seeds_and_tasks_are_both_in_the_interval_of_a_ratio() -> None:
    gaps = np.full(8, 10.0)
    seeds = ratio_of_sums(np.outer([2.0, 8.0], np.ones(8)), gaps, np.random.default_rng(0))
    tasks = ratio_of_sums(np.tile(np.arange(8.0), (2, 1)), gaps, np.random.default_rng(0))
    assert seeds is not None
    assert tasks is not None
    assert (seeds.low, seeds.high) == pytest.approx((0.2, 0.8))
    assert tasks.low is not None
    assert tasks.high is not None
    assert 0.1 < tasks.low < 0.35 < tasks.high < 0.6


@pytest.mark.parametrize(("gaps", "estimate"), [([10.0, -9.0], 2.0), ([-3.0, 1.0], None), ([5.0], 0.4)])
def test_a_summed_gap_that_may_be_nothing_gives_no_interval(gaps: list[float], estimate: float | None) -> None:
    found = ratio_of_sums(np.full((3, len(gaps)), 2.0 / len(gaps)), gaps, np.random.default_rng(0))
    if estimate is None:
        assert found is None
    else:
        assert found is not None
        assert (found.estimate, found.low, found.high) == (pytest.approx(estimate), None, None)


def test_the_worst_decile_is_the_mean_of_the_lowest_tenth() -> None:
    assert worst_decile(np.arange(20.0).reshape(4, 5)) == 0.5
    assert worst_decile([3.0, 1.0, 2.0]) == 1.0
    assert worst_decile(np.r_[-5.0, -3.0, -1.0, np.ones(18)]) == -3.0


def test_harm_is_of_all_pairs_and_by_the_test_where_there_are_episodes() -> None:
    base = 10.0 * noise()
    references = References(base - 100.0, base, base + np.array([[5.0], [5.0], [0.0], [0.0]]))
    evaluation = Evaluation.of(TASKS, references)
    worse = base + np.array([[1.0], [-1.0], [-1.0], [0.0]])
    unsure = base - np.where(np.arange(10) == 0, 3.0, 0.0)  # one bad episode of ten
    scores = MethodScores.of("mapper", 50, np.stack([worse, unsure]))
    harm = evaluation.harm(scores)
    assert (harm["share"], harm["by"]) == (2 / 8, "paired test")
    assert 0 <= harm["low"] < 0.25 < harm["high"] <= 1
    assert evaluation.harm(MethodScores("mapper", 50, scores.returns)) == {"share": 6 / 8, "by": "means"}
    assert harm_text({"share": 0.25, "by": "means"}) == "25% by means"
    assert harm_text({"share": 0.25, "low": 0.1, "high": 0.5, "by": "paired test"}) == "25% [10%, 50%]"
    assert harm_text({"share": 0.25, "by": "paired test"}) == "25%", "of an earlier version"


def test_the_base_policy_itself_does_no_harm() -> None:
    base = 10.0 * noise()
    evaluation = Evaluation.of(TASKS, References(base - 9.0, base, base + 1.0))
    same = base * (1 + 4e-9)
    assert evaluation.harm(MethodScores.of("base policy", None, same[None]))["share"] == 0.0
    assert evaluation.harm(MethodScores("base policy", None, same.mean(axis=1)[None]))["share"] == 0.0


# --------------------------------------------------------------------- references with more episodes than methods


def test_a_gain_is_paired_and_the_gap_is_over_all_episodes_of_references() -> None:
    wind = 50.0 * noise(episodes=20)
    references = References(wind - 500.0, wind, wind + 10.0)
    evaluation = Evaluation.of(TASKS, references, episodes=5)
    assert (evaluation.episodes, evaluation.reference_episodes) == (5, 20)
    assert evaluation.counted.all()
    half = MethodScores.of("mapper", 50, (wind[:, :5] + 5.0)[None])
    np.testing.assert_allclose(evaluation.gap_closed(half.returns), 0.5, err_msg="the same wind in both")
    ratio = evaluation.ratio_of_sums(half.returns)
    assert ratio is not None
    assert (ratio["ratio"], ratio["low"]) == (pytest.approx(0.5), pytest.approx(0.5))
    worse = MethodScores.of("mapper", 50, (wind[:, :5] - np.array([[1.0], [0.0], [1.0], [0.0]]))[None])
    assert evaluation.harm(worse)["share"] == 0.5, "the same wind in both"
    evaluation.methods.append(half)
    document = json.loads(json.dumps(evaluation.summary()))
    assert document["reference_episodes"] == 20
    again = Evaluation.from_summary(document)
    assert again.summary() == evaluation.summary()


def test_harm_is_defined_once() -> None:
    base, worse = noise(), noise() - np.linspace(0.0, 1.0, 10) * np.array([[0.0], [0.1], [0.3], [3.0]])
    evaluation = Evaluation.of(TASKS, References(base, base, base + 1.0))
    found = evaluation.harmed(MethodScores.of("mapper", 50, worse[None]))
    np.testing.assert_array_equal(found, harmed_pairs(base, worse)[None])
    assert evaluation.harmed(MethodScores.of("mapper", 50, worse[None, :, :1])) is None, "one episode shows nothing"


# ------------------------------------------------------------------------------------------------------- documents


def test_a_document_holds_every_episode_and_gives_the_evaluation_back(tmp_path: Path) -> None:
    evaluation = boat()
    wind = noise()
    evaluation.methods.append(MethodScores.of("mapper", 50, np.stack([-40.0 + wind, -90.0 + wind])))
    document = evaluation.summary()
    write_json(tmp_path / "document.json", document)
    again = Evaluation.from_summary(read_json(tmp_path / "document.json"))
    assert again.references is not None
    np.testing.assert_allclose(again.references.base, evaluation.references.base, rtol=1e-6)  # type: ignore[union-attr]
    assert again.methods[0].episodes is not None
    assert again.methods[0].episodes.shape == (2, 4, 10)
    (entry,) = again.summary()["methods"]
    assert (entry["harm"]["share"], entry["harm"]["by"]) == (0.5, "paired test")
    assert again.summary() == document
    assert document["counted_by"] == "paired test"
    longest = max(map(len, (tmp_path / "document.json").read_text().splitlines()))
    assert longest > 100, "a list of numbers is one line, so that documents stay small"


def test_documents_that_keep_means_are_read_and_say_so() -> None:
    evaluation = boat()
    document = {key: value for key, value in evaluation.summary().items() if "episode_returns" not in key}
    again = Evaluation.from_summary(document)
    assert again.counted_by == "old rule"
    assert len(uncounted_text(again.summary()).split("; ")) == 4 - again.counted.sum()


def test_outside_its_range_the_pendulum_is_adapted_as_a_whole() -> None:
    document = json.loads((RESULTS / "pendulum-swingup.json").read_text())
    summary = document["losses"]["both"]["splits"]["test-out"]
    (row,) = [row for row in summary["methods"] if (row["method"], row["steps"]) == ("mapper", 50)]
    assert row["ratio_of_sums"]["ratio"] == pytest.approx(0.95, abs=0.005)
    assert ratio_text(row["ratio_of_sums"]) == "0.95 [–]", "one task has an expert that is 1,235 worse: no interval"
    base, expert, counted = (summary[name] for name in ("base_returns", "expert_returns", "counted"))
    place = base.index(min(base, key=lambda value: abs(value + 836)))
    assert (round(base[place]), round(expert[place])) == (-836, -44)
    assert counted[place], "the rule of 5 % left it out: random actions return -16,080"


def test_with_few_transitions_the_mean_hides_harm() -> None:
    document = json.loads((RESULTS / "cheetah-actuators.json").read_text())
    summary = document["losses"]["both"]["splits"]["test-in"]
    (row,) = [row for row in summary["methods"] if (row["method"], row["steps"]) == ("mapper", 5)]
    gap = row["gap_closed"]
    assert (round(gap["iqm"], 2), round(gap["mean"], 2)) == (0.93, 0.79)
    assert gap["worst_decile"] < 0
