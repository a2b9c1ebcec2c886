"""Kinds of streams: what arrives, in which order, under which seed."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamap_envs import MetaMapError, Task, get_family
from metamap_rl.stream.config import load_config
from metamap_rl.stream.kinds import STREAMS, arrivals, revisits
from metamap_rl.stream.kinds.base import ordered
from metamap_rl.stream.kinds.drift import reflect

FAMILIES = ["reacher-goal", "cheetah-velocity", "cartpole-swingup"]
LINE = {"target_velocity": {"from": 0, "to": 2}}
EXAMPLES: dict[str, dict[str, Any]] = {
    "sequential": {"family": "reacher-goal", "tasks": 5},
    "families": {"families": FAMILIES, "tasks": 8},
    "embodiments": {"families": FAMILIES, "tasks": 8},
    "long": {"families": FAMILIES, "tasks": 9},
    "abrupt": {"family": "reacher-goal", "tasks": 2, "hold": 3},
    "cycles": {"family": "reacher-goal", "tasks": 3, "repeats": 2},
    "distraction": {"family": "cheetah-actuators", "turns": 4},
    "composition": {"family": "cheetah-actuators", "a": {"sign_bthigh": -1}, "b": {"strength_ffoot": 0.6}},
    "drift": {"family": "cheetah-velocity", "tasks": 5, "path": "line", "parameters": LINE},
    "tasks": {"tasks": [{"family": "reacher-goal", "parameters": {"goal_angle": 1}}, {"family": "cheetah-velocity"}]},
}  # fmt: skip


def draw(kind: str, seed: int = 0, **settings: Any) -> list[Task]:
    config = load_config({"name": "x", "stream": {"kind": kind, **EXAMPLES[kind], **settings}})
    return config.stream.tasks(np.random.default_rng(seed))


def test_every_kind_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(STREAMS.names())


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_the_seed_decides_the_tasks(kind: str) -> None:
    assert draw(kind) == draw(kind)
    drawn = kind not in ("distraction", "composition", "drift", "tasks")
    assert (draw(kind) != draw(kind, seed=1)) == drawn


def test_families_come_one_after_another_or_by_turns() -> None:
    blocks = [task.family for task in draw("families")]
    assert blocks == ["reacher-goal"] * 3 + ["cheetah-velocity"] * 3 + ["cartpole-swingup"] * 2
    assert [task.family for task in draw("embodiments")] == [*FAMILIES, *FAMILIES, *FAMILIES[:2]]
    rounds = [tuple(task.family for task in draw("long")[start : start + 3]) for start in (0, 3, 6)]
    assert all(sorted(row) == sorted(FAMILIES) for row in rounds)


def test_rounds_repeat_the_whole_sequence() -> None:
    assert draw("families", rounds=2) == draw("families") * 2
    with pytest.raises(MetaMapError, match="at least 1"):
        draw("families", rounds=0)


@pytest.mark.parametrize("kind", ["families", "embodiments", "long"])
def test_another_order_has_the_same_tasks(kind: str) -> None:
    first, second = draw(kind, order=0), draw(kind, order=1)
    assert first != second
    assert Counter(task.id for task in first) == Counter(task.id for task in second)


@given(st.integers(1, 5))
def test_orders_are_all_the_permutations(count: int) -> None:
    names = "abcde"[:count]
    total = len(list(itertools.permutations(names)))
    assert len({ordered(names, order) for order in range(total)}) == total
    assert ordered(names, 0) == tuple(names)
    assert ordered(names, total) == tuple(names)
    if count > 1:
        assert ordered(names, 1) == tuple(reversed(names))


def test_switches() -> None:
    a, b = draw("abrupt")[0], draw("abrupt")[-1]
    assert draw("abrupt") == [a, a, a, b, b, b]
    assert draw("cycles") == draw("cycles")[:3] * 2
    normal, inverted = draw("distraction")[:2]
    assert draw("distraction") == [normal, inverted, normal, inverted]
    signs = [name for name, _ in normal.parameters if name.startswith("sign_")]
    assert all(normal[name] == 1 and inverted[name] == -1 for name in signs)


def test_composition_is_one_change_the_other_and_both() -> None:
    a, b, both = draw("composition")
    defaults = get_family("cheetah-actuators").task()
    for task, changed in ((a, {"sign_bthigh"}), (b, {"strength_ffoot"}), (both, {"sign_bthigh", "strength_ffoot"})):
        assert {name for name, value in task.parameters if value != defaults[name]} == changed
    with pytest.raises(MetaMapError, match="sign_bthigh"):
        draw("composition", b={"sign_bthigh": 1})


def test_drift() -> None:
    assert [task["target_velocity"] for task in draw("drift")] == [0.0, 0.5, 1.0, 1.5, 2.0]
    walk = draw("drift", tasks=50, path="random-walk", parameters={"target_velocity": {"step": 0.5}})
    values = np.array([task["target_velocity"] for task in walk])
    assert values.min() >= 0
    assert values.max() <= 3
    assert 0 < np.abs(np.diff(values)).mean() < 1
    wave = {"target_velocity": {"centre": 1.5, "amplitude": 1.0, "period": 4}}
    values = np.array([task["target_velocity"] for task in draw("drift", path="sinusoid", parameters=wave)])
    assert values == pytest.approx([1.5, 2.5, 1.5, 0.5, 1.5])
    with pytest.raises(MetaMapError, match="did you mean 'target_velocity'"):
        draw("drift", parameters={"target_velocty": {"from": 0, "to": 1}})
    with pytest.raises(MetaMapError, match=r"expected a value in \[0"):
        draw("drift", parameters={"target_velocity": {"from": 0, "to": 9}})
    with pytest.raises(MetaMapError, match="cannot drift"):
        draw("drift", family="cheetah-actuators", parameters={"sign_bfoot": {"from": -1, "to": 1}})


@pytest.mark.parametrize("path", [{"from": 0, "to": 2 * math.pi}, {"from": -4, "to": math.pi}])
def test_an_angle_goes_around(path: dict[str, float]) -> None:
    tasks = draw("drift", family="reacher-goal", tasks=5, parameters={"goal_angle": path})
    found = np.array([task["goal_angle"] for task in tasks])
    assert np.cos(found) == pytest.approx(np.cos(np.linspace(path["from"], path["to"], 5)), abs=1e-5)
    assert np.sin(found) == pytest.approx(np.sin(np.linspace(path["from"], path["to"], 5)), abs=1e-5)


@given(st.floats(0.001, 0.5), st.integers(1, 60), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_random_walk_stays_in_the_training_range(step: float, count: int, seed: int) -> None:
    table = {"goal_radius": {"step": step}, "goal_angle": {"start": 3.0, "step": 10 * step}}
    tasks = draw("drift", seed, family="reacher-goal", tasks=count, path="random-walk", parameters=table)
    assert len(tasks) == count
    assert all(0.05 <= task["goal_radius"] <= 0.18 for task in tasks)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("families", {"tasks": 2}, "at least one for each of 3 families, got 2"),
        ("families", {"families": ["reacher-goal"] * 2}, "each family once"),
        ("embodiments", {"families": ["cheetah-velocity", "cheetah-actuators"]}, "at least two embodiments"),
        ("long", {"order": -1}, "order"),
        ("abrupt", {"parameters": [{}]}, "either tasks"),
        ("abrupt", {"tasks": None, "parameters": [{"goal_radius": 9}]}, r"parameters\[0\]: .*goal_radius.*got 9"),
        ("cycles", {"tasks": 1}, "at least 2 tasks"),
        ("distraction", {"family": "reacher-goal"}, r"no parameters sign_\*"),
        ("distraction", {"inverted": {}}, "the same task"),
        ("composition", {"b": {}}, "three different tasks"),
        ("drift", {"path": "lin"}, "did you mean 'line'"),
        ("drift", {"parameters": {"target_velocity": {"form": 0, "to": 1}}}, "did you mean 'from'"),
        ("drift", {"parameters": {}}, "at least one parameter"),
        ("drift", {"fixed": {"target_velocity": 1}}, "parameters and fixed"),
        ("drift", {"path": "random-walk", "parameters": {"target_velocity": {"start": 9, "step": 1}}}, "start: .* 9"),
        ("tasks", {"tasks": [{"family": "reacher-goal", "parameters": {"goal_rad": 1}}]}, "did you mean .goal_radius"),
        ("tasks", {"tasks": [{"family": "reacher-goal", "split": "trian"}]}, "did you mean 'train'"),
    ],
)  # fmt: skip
def test_what_a_kind_refuses(kind: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MetaMapError, match=words):
        draw(kind, **changes)


def test_written_tasks_are_what_to_json_writes() -> None:
    tasks = get_family("reacher-goal").sample("train", 2, 0)
    assert draw("tasks", tasks=[task.to_json() for task in tasks]) == tasks


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(-3, 3), st.floats(0.1, 4))
def test_reflection_stays_inside_and_leaves_what_is_inside(values: list[float], low: float, width: float) -> None:
    given_values = np.array(values)
    folded = reflect(given_values, low, low + width)
    assert (folded >= low - 1e-9).all()
    assert (folded <= low + width + 1e-9).all()
    inside = (given_values >= low) & (given_values <= low + width)
    assert folded[inside] == pytest.approx(given_values[inside], abs=1e-9)


def test_boundaries_and_returns() -> None:
    a, b, c = get_family("reacher-goal").sample("train", 3, 0)
    assert [arrival.boundary for arrival in arrivals([a, a, b, b, a])] == [True, False, True, False, True]
    assert revisits([a, a, b, c, a, b, a]) == (a, b)
    assert revisits([a, a, b]) == ()
    assert len(arrivals(itertools.islice(itertools.cycle([a, b]), 5))) == 5, "any iterator makes a stream"
    with pytest.raises(MetaMapError, match="empty"):
        arrivals([])
    with pytest.raises(MetaMapError, match=r"arrival 2 .* expected a Task"):
        arrivals([a, "b"])  # type: ignore[list-item]
