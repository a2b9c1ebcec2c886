"""Whether experts beat the base policy, and time that is left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_agents.experts.expert import Expert
from metamap_envs import MetaMapError, get_family
from metamap_rl.building import estimate
from metamap_rl.building.estimate import StageClock, duration
from metamap_rl.building.findings import compare_experts, least_better
from metamap_rl.building.plan import STAGES

FAMILY = get_family("reacher-goal")


def experts(count: int, gain: float) -> list[Expert]:
    generator = np.random.default_rng(0)
    base = generator.normal(size=(count, 10))
    noise = generator.normal(scale=0.1, size=(count, 10))
    tasks = FAMILY.sample("train", count, 0)
    return [
        Expert(task, np.zeros(1, np.float32), row + gain + some, row)
        for task, row, some in zip(tasks, base, noise, strict=True)
    ]


def test_experts_that_gain_are_a_gap_and_experts_that_are_as_good_are_none() -> None:
    better = compare_experts(experts(20, gain=1.0))
    assert (better.better, better.gap) == (20, True)
    same = compare_experts(experts(20, gain=0.0))
    assert not same.gap
    assert f"{same.better} of 20" in same.sentence()
    with pytest.raises(MetaMapError):
        compare_experts([])


@given(st.integers(3, 300))
def test_chance_alone_is_never_enough(tasks: int) -> None:
    least = least_better(tasks)
    assert 2 <= least <= tasks
    assert least > 0.025 * tasks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(estimate.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_what_stages_take(clock: list[float]) -> None:
    expected = {"base policy": 100.0, "universal policy": 100.0, "mapper": 50.0}
    watch = StageClock(expected)
    assert watch.left == pytest.approx(250.0)
    assert watch.at("base policy", 0, 10)
    clock[0] = 100.0
    assert not watch.at("base policy", 5, 10), "half of it took as long as all of it should"
    assert 225 <= watch.left <= 300
    clock[0] = 200.0
    watch.at("base policy", 10, 10)
    watch.at("universal policy", 0, 10)
    assert watch.left == pytest.approx(300.0), "later stages are taken to be as slow"
    watch.end()
    assert watch.spent == {"base policy": 200.0, "universal policy": 0.0}
    assert watch.total == 200.0


def test_a_policy_that_ends_on_a_plateau_tells_how_fast_the_machine_is(clock: list[float]) -> None:
    watch = StageClock({"base policy": 100.0, "mapper": 50.0})
    watch.at("base policy", 0, 10)
    clock[0] = 40.0
    watch.at("base policy", 4, 10)
    watch.at("mapper", 0, 10)
    assert watch.left == pytest.approx(50.0), "neither faster nor slower than expected"


def test_stages_without_an_estimate_take_nothing(clock: list[float]) -> None:
    watch = StageClock({})
    for stage in STAGES:
        watch.at(stage, 0, 0)
        assert watch.left == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.7, "1 min 0 s"), (440, "7 min 20 s"), (3900, "1 h 5 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
