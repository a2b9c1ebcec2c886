"""Parameter spaces: bounds, splits, sampling, and errors that teach."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamap_agents.experts.filling import TaskCounts
from metamap_agents.experts.zoo import Zoo
from metamap_envs import MetaMapError, Parameter, ParameterSpace, Split, get_family, list_families
from metamap_envs.parameters import parse_split

FAMILIES = list_families()
families = st.sampled_from(FAMILIES)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 70)


def inside(value: float, intervals: tuple[tuple[float, float], ...]) -> bool:
    return any(low <= value <= high for low, high in intervals)


def has_outside(name: str) -> bool:
    return get_family(name).space.has_outside


@settings(deadline=None, max_examples=60)
@given(name=families, split=st.sampled_from(list(Split)), count=counts, seed=seeds)
def test_samples_are_inside_their_splits_ranges(name: str, split: Split, count: int, seed: int) -> None:
    family = get_family(name)
    if split is Split.TEST_OUT and not has_outside(name):
        return
    tasks = family.sample(split, count, seed)
    assert len(tasks) == count
    for task in tasks:
        assert task.split == split
        for parameter in family.space.parameters:
            value = task[parameter.name]
            assert parameter.low <= value <= parameter.high
            if parameter.choices:
                drawn = parameter.out_choices if split is Split.TEST_OUT else parameter.train_choices
                assert value in (drawn or parameter.choices)
            elif split is Split.TEST_OUT and parameter.out:
                assert inside(value, parameter.out)
                assert not any(low < value < high for low, high in parameter.train)
            else:
                assert inside(value, parameter.train)


@settings(deadline=None, max_examples=30)
@given(name=families, seed=seeds, count=counts)
def test_splits_share_no_task(name: str, seed: int, count: int) -> None:
    family = get_family(name)
    splits = [split for split in Split if split is not Split.TEST_OUT or has_outside(name)]
    if family.space.training_share is not None:  # of a grid, validation shares the training tasks, and few are many
        seen, unseen = ({task.id for task in family.sample(split, count, seed)} for split in ("train", "test-in"))
        assert not seen & unseen
        return
    ids = [task.id for split in splits for task in family.sample(split, count, seed)]
    # Numbers are rounded to six decimals, so that two draws in a few hundred thousand meet; see the next test.
    by_chance = any(not parameter.choices for parameter in family.space.parameters)
    assert len(ids) - len(set(ids)) <= by_chance


def test_a_task_that_two_splits_draw_by_chance_is_the_first_ones(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", "cheetah-velocity", seed=19815)
    drawn = {split: {task.id for task in zoo.tasks(split, 58)} for split in ("train", "test-in")}
    assert len(drawn["train"] & drawn["test-in"]) == 1
    tasks = TaskCounts(train=58, validation=58, test_in=58, test_out=58).tasks(zoo)
    assert len({task.id for task in tasks}) == len(tasks) == 4 * 58 - 1
    assert sum(task.split == "train" for task in tasks) == 58


@settings(deadline=None, max_examples=30)
@given(name=families, seed=seeds, count=counts)
def test_sampling_is_reproducible_and_a_shorter_sample_is_the_head_of_a_longer(
    name: str, seed: int, count: int
) -> None:
    family = get_family(name)
    assert family.sample("train", count, seed) == family.sample("train", 70, seed)[:count]


@pytest.mark.parametrize("name", [name for name in FAMILIES if get_family(name).space.training_share is None])
def test_another_seed_gives_other_tasks(name: str) -> None:
    family = get_family(name)
    first, second = ({task.id for task in family.sample("train", 8, seed)} for seed in (0, 1))
    assert first != second
    if not all(parameter.choices for parameter in family.space.parameters):
        assert not first & second, "combinations are finitely many, numbers are not"


def test_continuous_samples_fill_their_range_evenly() -> None:
    values = np.array([task["target_velocity"] for task in get_family("cheetah-velocity").sample("train", 64, 3)])
    counts, _ = np.histogram(values, bins=16, range=(0.0, 3.0))
    assert (counts == 4).all()


def test_quantile_weighs_intervals_by_length() -> None:
    parameter = Parameter("x", "1", 0.0, 10.0, 1.0, train=((0.0, 1.0), (5.0, 8.0)))
    found = parameter.quantile(np.array([0.0, 0.125, 0.25, 0.625, 1.0 - 1e-12]), parameter.train)
    np.testing.assert_allclose(found, [0.0, 0.5, 5.0, 6.5, 8.0], atol=1e-6)
    points = ((0.5, 0.5), (1.5, 1.5))
    assert parameter.quantile(np.array([0.0, 0.4, 0.6, 0.9]), points).tolist() == [0.5, 0.5, 1.5, 1.5]


@given(
    low=st.floats(-10.0, 10.0),
    width=st.floats(1e-9, 10.0),
    fractions=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=2, unique=True),
)
def test_a_sample_lies_inside_however_narrow_the_interval_is(low: float, width: float, fractions: list[float]) -> None:
    high = low + width
    parameter = Parameter("x", "1", low, high, low, train=((low, high),))
    found = parameter.quantile(np.array(sorted(fractions)), parameter.train)
    assert (found >= low).all()
    assert (found <= high).all()
    assert (np.diff(found) >= 0).all()
    evenly = parameter.quantile(np.linspace(0.0, 0.999, 100), parameter.train)
    assert len(set(evenly.tolist())) > 90 or width < 1e3 * np.spacing(abs(low))


def log_parameter(low: float, high: float, **others: object) -> Parameter:
    return Parameter("x", "1", low, high, low, train=((low, high),), scale="log", **others)  # type: ignore[arg-type]


def test_a_log_scale_draws_every_decade_as_often() -> None:
    space = ParameterSpace((log_parameter(1e-4, 1.0, out=((1e-4, 1e-4), (0.1, 1.0))),))
    values = space.sample(Split.TRAIN, 1024, np.random.default_rng(0))[:, 0]
    counts, _ = np.histogram(values, bins=[1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    np.testing.assert_allclose(counts, 256, atol=2)  # values are rounded, also across the edges
    outside = space.sample(Split.TEST_OUT, 64, np.random.default_rng(0))[:, 0]
    assert (outside >= 0.1).all()  # the other interval is a point
    assert values.tolist() == [float(f"{value:.5e}") for value in values.tolist()]


@given(
    low=st.floats(1e-12, 1e6),
    ratio=st.floats(1.0 + 1e-9, 1e9),
    fractions=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=2, unique=True),
)
def test_a_sample_on_a_log_scale_lies_inside(low: float, ratio: float, fractions: list[float]) -> None:
    parameter = log_parameter(low, low * ratio)
    found = parameter.quantile(np.array(sorted(fractions)), parameter.train)
    assert ((found >= low) & (found <= low * ratio)).all()
    assert (np.diff(found) >= 0).all()
    assert len(set(parameter.quantile(np.linspace(0.0, 0.999, 100), parameter.train).tolist())) > 90
    (coordinates,) = parameter.coordinates(found)
    np.testing.assert_allclose([parameter.from_coordinates([c]) for c in coordinates], found, rtol=1e-12)


def test_small_values_are_not_rounded_away() -> None:
    values = np.array([[1.23456789e-7, 4.0e-7]])
    np.testing.assert_allclose(log_parameter(1e-7, 1e-3).rounded(values), [[1.23457e-7, 4.0e-7]], rtol=1e-12)
    narrow = Parameter("x", "1", 0.0, 1e-6, 0.0, train=((0.0, 1e-6),))
    np.testing.assert_allclose(narrow.rounded(values), [[1.235e-7, 4.0e-7]], rtol=1e-9)
    wide = Parameter("x", "1", 0.0, 1.0, 0.0, train=((0.0, 1.0),))
    np.testing.assert_array_equal(wide.rounded(np.array([0.123456789])), [0.123457])


def test_coordinates_on_a_log_scale_are_logarithms() -> None:
    space = ParameterSpace((log_parameter(0.01, 100.0), Parameter("y", "1", 0.0, 1.0, 0.5, train=((0.0, 1.0),))))
    assert space.coordinate_names == ("log x", "y")
    points = space.coordinates(np.array([[0.01, 0.25], [1.0, 0.5], [100.0, 1.0]]))
    np.testing.assert_allclose(points, [[-np.log(100.0), 0.25], [0.0, 0.5], [np.log(100.0), 1.0]], rtol=1e-6)
    assert space.from_coordinates(points[2]) == pytest.approx({"x": 100.0, "y": 1.0}, rel=1e-6)
    assert math.isfinite(space.from_coordinates(np.array([1e4, 0.0]))["x"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"scale": "logarithmic"}, "unknown scale 'logarithmic': valid choices are 'linear', 'log'"),
        ({"train": ((0.0, 1.0),)}, "expected values above 0, got 0 as train"),
        ({"low": -1.0, "out": ((-1.0, -0.5),)}, "expected values above 0, got -1 as out"),
        ({"default": 0.0, "low": 0.0}, "got 0 as default; declare a default above 0"),
        ({"low": 0.0}, "got 0 as low"),
        ({"train": (), "choices": (0.0, 0.5)}, "got 0 as choices"),
        ({"periodic": True}, "this one is an angle"),
        ({"train": (), "choices": (0.1, 0.5), "categorical": True}, "this one is categorical"),
    ],
)
def test_what_has_no_logarithm_is_refused(arguments: dict[str, object], expected: str) -> None:
    fitting = {"name": "x", "unit": "1", "low": 0.1, "high": 1.0, "default": 0.5, "train": ((0.1, 1.0),)}
    with pytest.raises(MetaMapError, match=f"'x'.*{expected}"):
        Parameter(**(fitting | {"scale": "log", "low": 0.0 if "train" in arguments else 0.1} | arguments))  # type: ignore[arg-type]


def test_sign_patterns_of_cheetah_actuators_are_dealt_out_to_the_splits() -> None:
    combinations = get_family("cheetah-actuators").space.combinations
    dealt = [set(combinations[split]) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST_IN)]
    assert [len(patterns) for patterns in dealt] == [40, 8, 16]
    assert len(set.union(*dealt)) == 64
    assert set(combinations[Split.TEST_OUT]) == set.union(*dealt)


@pytest.mark.parametrize(("split", "patterns"), [("train", 40), ("validation", 8), ("test-in", 16), ("test-out", 64)])
def test_a_sample_goes_through_all_sign_patterns_before_it_repeats_one(split: str, patterns: int) -> None:
    sampled = [tuple(task.values[:6]) for task in get_family("cheetah-actuators").sample(split, 2 * patterns, 5)]
    assert len(set(sampled[:patterns])) == len(set(sampled[patterns:])) == len(set(sampled)) == patterns


def test_which_sign_pattern_comes_first_depends_on_the_seed() -> None:
    first = {tuple(get_family("cheetah-actuators").sample("train", 1, seed)[0].values[:6]) for seed in range(20)}
    assert len(first) > 5


def test_few_combinations_are_shared_by_all_splits() -> None:
    space = ParameterSpace((Parameter("direction", "1", -1.0, 1.0, 1.0, choices=(-1.0, 1.0)),))
    assert len({tuple(combinations) for combinations in space.combinations.values()}) == 1


def test_choices_of_their_own_for_training_and_for_test_out() -> None:
    joint = Parameter(
        "joint", "1", -1.0, 5.0, -1.0, choices=(-1.0, 0.0, 1.0, 4.0), train_choices=(0.0, 1.0), out_choices=(4.0,)
    )
    sign = Parameter("sign", "1", -1.0, 1.0, 1.0, choices=(-1.0, 1.0))
    space = ParameterSpace((joint, sign))
    assert space.has_outside
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST_IN):
        assert set(space.combinations[split]) == {(0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0)}
    assert set(space.combinations[Split.TEST_OUT]) == {(4.0, -1.0), (4.0, 1.0)}
    drawn = space.sample(Split.TEST_OUT, 4, np.random.default_rng(0))
    assert sorted(map(tuple, drawn)) == [(4.0, -1.0), (4.0, -1.0), (4.0, 1.0), (4.0, 1.0)]


@given(name=families, value=st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3)))
def test_a_parameter_admits_numbers_within_bounds_and_nothing_else(name: str, value: object) -> None:
    parameter = get_family(name).space.parameters[-1]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and parameter.low <= value <= parameter.high and value in (parameter.choices or (value,)):  # type: ignore[operator]
        assert parameter.check(value) == value
    else:
        with pytest.raises(MetaMapError, match=parameter.name):
            parameter.check(value)


@pytest.mark.parametrize("value", [np.float32(1.5), np.float64(1.5), np.int64(1), 1])
def test_numpy_numbers_are_admitted_as_plain_floats(value: object) -> None:
    assert type(get_family("cheetah-velocity").task({"target_velocity": value})["target_velocity"]) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(MetaMapError, match=r"target_velocity.*finite"):
        get_family("cheetah-velocity").task({"target_velocity": value})


def test_errors_name_what_was_meant() -> None:
    with pytest.raises(MetaMapError, match=r"unknown family 'cheeta-velocity': did you mean 'cheetah-velocity'\?"):
        get_family("cheeta-velocity")
    family = get_family("cheetah-velocity")
    with pytest.raises(
        MetaMapError, match=r"parameter '\w+' of family 'cheetah-velocity'.*did you mean 'target_velocity'"
    ):
        family.task({"target_velocit": 1.0})
    with pytest.raises(MetaMapError, match=r"target_velocity.*\[0, 4\] m/s, got 5.0 \(closest is 4.0\)"):
        family.task({"target_velocity": 5.0})
    with pytest.raises(MetaMapError, match=r"sign_bthigh.*one of \(-1.0, 1.0\), got 0.9 \(closest is 1.0\)"):
        get_family("cheetah-actuators").task({"sign_bthigh": 0.9})
    with pytest.raises(MetaMapError, match=r"unknown split 'trian': did you mean 'train'\?"):
        parse_split("trian")
    with pytest.raises(MetaMapError, match="at least 1, got 0"):
        family.sample("train", 0, 0)
    with pytest.raises(MetaMapError, match="mapping of names to numbers"):
        family.task([1.0])  # type: ignore[arg-type]


def test_a_space_without_outside_has_no_test_out() -> None:
    space = ParameterSpace((Parameter("x", "1", 0.0, 1.0, 0.5, train=((0.0, 1.0),)),))
    with pytest.raises(MetaMapError, match="no test-out"):
        space.sample(Split.TEST_OUT, 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"train": ((0.0, 1.0),), "choices": (0.0, 1.0)},
        {"train": ((0.0, 2.0),)},
        {"train": ((0.8, 0.2),)},
        {"train": ((0.0, 1.0),), "default": 3.0},
        {"choices": (0.0, 1.0), "default": 0.5},
        {"choices": (0.0, 1.0), "train_choices": (0.5,)},
        {"choices": (0.0, 1.0), "out_choices": (2.0,)},
        {"train": ((0.0, 1.0),), "out_choices": (0.0,)},
    ],
)
def test_contradictory_declarations_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(MetaMapError, match="'x'"):
        Parameter(**({"name": "x", "unit": "1", "low": 0.0, "high": 1.0, "default": 0.0} | arguments))  # type: ignore[arg-type]


def test_a_space_needs_distinct_parameters() -> None:
    parameter = Parameter("x", "1", 0.0, 1.0, 0.5, train=((0.0, 1.0),))
    for parameters in ((), (parameter, parameter)):
        with pytest.raises(MetaMapError, match="distinct"):
            ParameterSpace(parameters)


def test_of_a_grid_a_share_is_trained_on_and_all_the_rest_is_test_in() -> None:
    speed = Parameter("speed", "1", 1.0, 4.0, 1.0, choices=(1.0, 2.0, 3.0, 4.0))
    length = Parameter("length", "1", 1.0, 5.0, 1.0, choices=(1.0, 2.0, 3.0, 4.0, 5.0))
    space = ParameterSpace((speed, length), training_share=0.2)
    seen, unseen = (set(space.combinations[split]) for split in (Split.TRAIN, Split.TEST_IN))
    assert (len(seen), len(unseen), len(seen | unseen)) == (4, 16, 20)
    assert set(space.combinations[Split.VALIDATION]) == seen
    assert not space.has_outside
    drawn = space.sample(Split.TEST_IN, 16, np.random.default_rng(0))
    assert {tuple(row) for row in drawn} == unseen
    assert [space.unseen(split) for split in Split] == [False, False, True, True]
    assert [ParameterSpace((speed,)).unseen(split) for split in Split] == [False, False, False, True]


def test_a_share_is_of_a_grid() -> None:
    wide = Parameter("x", "1", 0.0, 1.0, 0.5, train=((0.0, 1.0),))
    with pytest.raises(MetaMapError, match="all parameters must be discrete"):
        ParameterSpace((wide,), training_share=0.2)
    sign = Parameter("sign", "1", -1.0, 1.0, 1.0, choices=(-1.0, 1.0))
    with pytest.raises(MetaMapError, match=r"must be between 0 and 1, got 1\.2"):
        ParameterSpace((sign,), training_share=1.2)
