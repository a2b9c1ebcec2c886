"""Users' environments: their spaces, and what no seed reproduces."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text
from gymnasium.spaces import Dict as DictSpace
from gymnasium.spaces.utils import flatten
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.plain_family import declare, started
from helpers.user_envs import ID, Plain
from metamap_envs import Family, FamilyVectorEnv, MetaMapError
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.user_env import CheckedEnv

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


@pytest.mark.parametrize(
    ("box", "share"),
    [
        (Box(0, 4, (1,), np.int32), 0.2),
        (Box(-2, 2, (1,), np.int64), 0.2),
        (Box(0, 255, (1,), np.uint8), 1 / 256),
        (Box(-1, 1, (1,), np.int8), 1 / 3),
        (Box(3, 4, (1,), np.int16), 0.5),
    ],
)
def test_each_integer_of_a_box_has_an_equal_share(box: Box, share: float) -> None:
    take = ActionMap(box)
    cells = np.linspace(-1.0, 1.0, 2561)[:-1] + 1.0 / 2560  # middles of equal cells
    taken = np.array([take(np.array([value], np.float32)) for value in cells])
    values, counts = np.unique(taken, return_counts=True)
    assert taken.dtype == box.dtype
    np.testing.assert_array_equal(values, np.arange(int(box.low[0]), int(box.high[0]) + 1))
    np.testing.assert_allclose(counts / len(cells), share, atol=2 / len(cells))
    for end, bound in ((-1.0, box.low), (1.0, box.high), (-1.5, box.low), (7.0, box.high)):
        np.testing.assert_array_equal(take(np.array([end], np.float32)), bound)


@pytest.mark.parametrize(
    "space",
    [
        Box(-0.1, 0.3, (3,), np.float32),
        Box(-0.1, 0.7, (3,), np.float64),
        Box(np.float16(-0.1), np.float16(0.3), (2, 2), np.float16),
        Box(-1.0, 1.0, (2,), np.float16),
        Box(-1.0, 1.0, (2,), np.float64),
        Box(-5.0, 3.0, (), np.float32),
        Box(-3, 9, (2,), np.int8),
        Discrete(4, start=-2),
        Discrete(2, start=5),
        MultiDiscrete([2, 3, 4]),
        MultiDiscrete([[2, 3], [4, 5]], start=[[1, -2], [0, 7]]),
        MultiBinary(3),
        MultiBinary((2, 2)),
    ],
)
def test_actions_are_of_the_space_also_at_its_ends(space: gym.Space[Any]) -> None:
    take = ActionMap(space)
    for value in (-1.0, -0.3, 0.0, 0.3, 1.0):
        assert space.contains(take(np.full(take.size, value, np.float32)))


@given(
    counts=st.lists(st.integers(2, 5), min_size=1, max_size=4),
    numbers=st.lists(st.floats(-1.0, 1.0, width=32), min_size=20, max_size=20),
)
def test_each_choice_of_a_multi_discrete_space_is_as_of_a_discrete_one(counts: list[int], numbers: list[float]) -> None:
    take = ActionMap(MultiDiscrete(counts))
    action = np.array(numbers[: take.size], np.float32)
    alone, at = [], 0
    for count in counts:
        one = ActionMap(Discrete(count))
        alone.append(one(action[at : at + one.size]))
        at += one.size
    assert at == take.size
    assert take(action).tolist() == alone


def test_the_largest_number_chooses_and_the_first_of_equal_ones() -> None:
    take = ActionMap(MultiDiscrete([3, 2], start=[10, 20]))
    assert take(np.array([0.2, 0.9, 0.9, 0.0], np.float32)).tolist() == [11, 20]
    assert take(np.array([-1.0, -1.0, -0.5, 0.1], np.float32)).tolist() == [12, 21]
    assert ActionMap(MultiBinary(2))(np.array([0.0, 1e-6], np.float32)).tolist() == [0, 1]


GOAL = DictSpace(
    {
        "observation": Box(-1.0, 1.0, (2, 2), np.float32),
        "achieved_goal": Box(-9, 9, (1,), np.int64),
        "desired_goal": DictSpace({"near": Box(0.0, 1.0, (), np.float64)}),
    }
)
SEEN = {"desired_goal": {"near": 0.25}, "observation": np.eye(2, dtype=np.float32), "achieved_goal": [3]}


def test_a_dict_is_flat_as_gymnasium_flattens_it_whatever_order_its_keys_come_in() -> None:
    env = started(observation_space=GOAL, observation=lambda self: SEEN)
    found = env.step(np.zeros(1))[0]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [3, 0.25, 1, 0, 0, 1])
    exact = {**SEEN, "achieved_goal": np.array([3]), "desired_goal": {"near": np.array(0.25)}}
    np.testing.assert_array_equal(found, flatten(GOAL, exact))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(6), "expected a dictionary with the key 'achieved_goal', got an array"),
        ({**SEEN, "observation": np.zeros(3)}, r"the observation 'observation' has shape \(3,\)"),
        ({**SEEN, "desired_goal": 0.5}, "expected a dictionary with the key 'near', got 0.5"),
        ({**SEEN, "achieved_goal": {"x": 1}}, "expected an array, got a dictionary with 'x'"),
        ({"observation": np.eye(2), "achieved_goal": [3]}, "no key 'desired_goal', it has 'observation'"),
        ({**SEEN, "achieved_goal": ["a"]}, "'achieved_goal' expected numbers"),
        ({**SEEN, "desired_goal": {"near": np.nan}}, "the environment's observation is NaN in 1 of 6 numbers"),
    ],
)
def test_a_dict_that_is_not_of_its_space_is_reported(value: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=f"reset: .*{message}"):
        started(observation_space=GOAL, observation=lambda self: value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0.0, 0.0, (1,)), r"action 0 has a range of no width \(\[0, 0\]\): give it one"),
        (Box(np.array([-1.0, 2.0], np.float32), np.array([1.0, 2.0], np.float32)), "action 1 has a range of no width"),
        (Box(3, 3, (1,), np.int32), "action 0 has a range of no width"),
        (Box(-1.0, np.inf, (1,)), "finite bounds"),
        (Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,)), "finite bounds"),
        (Box(-1.0, 1.0, (0,)), "at least one action"),
        (Discrete(1), "at least two actions to choose from"),
        (MultiDiscrete([2, 1]), "at least two actions to choose from"),
        (Text(3), "type Box, Discrete, MultiDiscrete or MultiBinary"),
        (DictSpace({"a": Discrete(2)}), "type Box, Discrete, MultiDiscrete or MultiBinary"),
    ],
)
def test_actions_without_effect_or_end_are_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=f"family 'users': .*{message}"):
        declare(action_space=space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(3), "type Box.*FlattenObservation"),
        (
            DictSpace({"a": Box(0.0, 1.0, (1,)), "b": Discrete(3)}),
            r"type Box.*Discrete\(3\) at 'b'.*FlattenObservation",
        ),
        (DictSpace({"a": DictSpace({"b": Text(3)})}), "at 'a.b'"),
        (DictSpace({1: Box(0.0, 1.0, (1,))}), "text as keys"),  # type: ignore[dict-item]
        (DictSpace({}), "one number or more"),
        (Text(3), "type Box"),
        (Box(0.0, 1.0, (0,)), "one number or more"),
    ],
)
def test_observations_that_are_no_numbers_are_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=f"family 'users': .*{message}"):
        declare(observation_space=space)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Box(0, 255, (2, 3, 1), np.uint8), np.arange(6, dtype=np.uint8).reshape(2, 3, 1)),
        (Box(-1.0, 1.0, (), np.float32), 0.5),
        (Box(-1.0, 1.0, (2,), np.float16), np.array([[0.5], [0.25]])),
        (Box(-9, 9, (3,), np.int64), [1, 2, 3]),
        (Box(-1.0, 1.0, (1,)), 0.5),
    ],
)
def test_observations_are_flat_float64_whatever_they_were(space: gym.Space[Any], value: Any) -> None:
    env = started(observation_space=space, observation=lambda self: value)
    found = env.step(np.zeros(1))[0]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.ravel(value))


def test_a_task_of_another_size_is_refused() -> None:
    def init(self: Plain, gain: float = 1.0) -> None:
        Plain.__init__(self, gain)
        self.observation_space = Box(-np.inf, np.inf, (3 if gain == 2.0 else 2,), np.float32)

    declare(__init__=init)
    with pytest.raises(MetaMapError, match=r"task gain=2: expected \(2, 1\) observations and actions"):
        GymnasiumFamilyEnv("users", {"gain": 2.0})


class OwnGenerator(Plain):
    """Seeds a generator of its own, as environments around other simulators do."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=2).astype(np.float32)
        return self.x, {}


class NeverGoesOn(OwnGenerator):
    """A new generator in each reset, from chance where there is no seed."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=2).astype(np.float32)
        return self.x, {}


class HandsNothingOn(Plain):
    """Draws from Gymnasium's generator, and forgets to seed it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.x = self.np_random.normal(size=2).astype(np.float32)
        return self.x, {}


def starts(family: Family) -> NDArray[Any]:
    """First observations of three episodes and after a change of the task, one seed."""
    env = GymnasiumFamilyEnv(family.name)
    rows = [env.reset(seed=5)[0], env.reset()[0], env.reset()[0], env.reset(options={"parameters": {"gain": 2.0}})[0]]
    vector = FamilyVectorEnv([family.task()] * 2, autoreset_mode="same_step", horizon=1)
    alike, _ = vector.reset(seed=[5, 6])
    np.testing.assert_array_equal(alike[0], rows[0])
    np.testing.assert_array_equal(vector.step(np.zeros((2, 1)))[0][0], rows[1])
    return np.array(rows)


@pytest.mark.parametrize("kind", [Plain, OwnGenerator, NeverGoesOn, HandsNothingOn])
def test_the_same_seed_gives_the_same_episodes_whatever_generator_it_is(kind: type[Plain]) -> None:
    family = declare(kind)
    with warnings.catch_warnings(action="error"):
        first = starts(family)
    np.testing.assert_array_equal(first, starts(family))
    assert len(np.unique(first[:, 0])) == len(first)
    if kind is not HandsNothingOn:  # and as the environment itself has it
        own = gym.make(ID)
        np.testing.assert_array_equal(first[0], own.reset(seed=5)[0])
        if kind is not NeverGoesOn:
            np.testing.assert_array_equal(first[1], own.reset()[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": lambda self: np.random.normal(size=2)}, "two resets with the same seed start differently"),  # noqa: NPY002
        ({"reward": lambda self: float(np.random.normal())}, "the same actions after a reset with the same seed"),  # noqa: NPY002
    ],
)
def test_what_no_seed_reproduces_is_noticed(changes: dict[str, Any], message: str) -> None:
    family = declare(**changes)
    state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    with pytest.warns(UserWarning, match=f"'users': Users-v0 is not reproducible: {message}"):
        assert family.reproducibility.complaint  # type: ignore[attr-defined]
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]  # noqa: NPY002
    GymnasiumFamilyEnv("users").reset(seed=0)  # told once


def test_a_checked_environment_copies_what_it_is_given() -> None:
    env = CheckedEnv(Plain(), "environment 'Plain'")
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.env.unwrapped.x[:] = 7.0  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first, kept)
