"""The shift detector: quiet while the task stays, awake when it changes, and the same after a resume."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import MetaMapError
from metamap_rl.stream.shift import ShiftDetector

Arrays = tuple[NDArray[np.float32], ...]


def rollouts(seed: int, *, goal: float = 0.0, gain: float = 1.0, repeats: int = 4, size: int = 3) -> Arrays:
    """A noisy linear system; ``goal`` moves the reward alone, ``gain`` the last observation's answer to the action."""
    generator = np.random.default_rng(seed)
    observations = generator.normal(size=(repeats, 100, size))
    actions = generator.uniform(-1, 1, size=(repeats, 100, 2))
    gains = np.array([1.0] * (size - 1) + [gain])
    change = 0.1 * observations + gains * actions[..., :1] + 0.1 * generator.normal(size=observations.shape)
    rewards = -np.abs(observations[..., 0] - goal) + 0.1 * generator.normal(size=(repeats, 100))
    return tuple(array.astype(np.float32) for array in (observations, actions, rewards, observations + change))


def detector(seed: int = 0) -> ShiftDetector:
    made = ShiftDetector()
    made.reset(*rollouts(seed))
    return made


def test_everything_is_new_before_the_first_task() -> None:
    assert ShiftDetector().is_shift(*rollouts(0)).shifted


def test_the_same_task_is_no_shift() -> None:
    assert not any(detector(seed).is_shift(*rollouts(100 + seed)).shifted for seed in range(20))


def test_a_change_is_seen_and_named() -> None:
    goal, gain = detector().is_shift(*rollouts(1, goal=2.0)), detector().is_shift(*rollouts(1, gain=-1.0))
    assert goal.shifted
    assert goal.output == "reward"
    assert gain.shifted
    assert gain.output == "observation 2"
    assert gain.statistic > gain.threshold


def test_one_rollout_unlike_the_others_is_no_shift() -> None:
    """A robot that falls over in one rollout goes where no model of the others is any good."""
    last, new = rollouts(0), rollouts(1)
    fallen = rollouts(2, gain=-1.0)
    for array, other in zip(new, fallen, strict=True):
        array[1] = other[1]
    new[0][1] += 5.0
    new[3][1] += 5.0
    watching = ShiftDetector()
    watching.reset(*last)
    assert not watching.is_shift(*new).shifted


def test_a_change_is_seen_from_either_side() -> None:
    there, back = ShiftDetector(), ShiftDetector()
    there.reset(*rollouts(0))
    back.reset(*rollouts(1, goal=1.0))
    assert there.is_shift(*rollouts(1, goal=1.0)).shifted
    assert back.is_shift(*rollouts(0)).shifted


def test_outputs_that_never_change_say_nothing() -> None:
    still = tuple(np.zeros_like(array) for array in rollouts(0))
    watching = ShiftDetector()
    watching.reset(*still)
    assert watching.is_shift(*still).statistic == 0.0


def test_another_size_is_always_a_shift() -> None:
    assert detector().is_shift(*rollouts(0, size=4)).output == "size"


def test_its_state_survives() -> None:
    first = detector()
    second = ShiftDetector.from_arrays(first.arrays())
    assert second.is_shift(*rollouts(3)) == first.is_shift(*rollouts(3))
    assert ShiftDetector.from_arrays({}).arrays() == {}
    with pytest.raises(MetaMapError, match="unknown array 'spread'"):
        ShiftDetector.from_arrays({**first.arrays(), "spread": np.zeros(2)})
    for name, array in first.arrays().items():
        others = {key: value for key, value in first.arrays().items() if key != name}
        with pytest.raises(MetaMapError, match=name):
            ShiftDetector.from_arrays(others)
        with pytest.raises(MetaMapError, match="shift detector"):
            ShiftDetector.from_arrays({**others, name: array[:, :-1]})


def test_bad_settings() -> None:
    with pytest.raises(MetaMapError, match="threshold"):
        ShiftDetector(threshold=0.0)
    with pytest.raises(MetaMapError, match="at least 2 rollouts"):
        ShiftDetector().reset(*rollouts(0, repeats=1))


def test_bad_rollouts() -> None:
    observations, actions, rewards, after = rollouts(0)
    with pytest.raises(MetaMapError, match=r"expected \[R, n, O\]"):
        ShiftDetector().reset(observations, actions[:, :-1], rewards, after)
    with pytest.raises(MetaMapError, match="NaN"):
        detector().is_shift(observations, actions, np.full_like(rewards, np.nan), after)
