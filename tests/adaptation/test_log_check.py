"""A recording that looks unusual is told by column and remedy; one that is usual is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.recordings import changed, recorded
from metamap_envs import Rollout, get_family
from metamap_rl import load
from metamap_rl.adaptation.log_check import LogCheck, check_log
from metamap_rl.data.recordings import Recorded
from metamap_rl.probing.recording import record_policies

Array = NDArray[np.float32]
DEGREES = np.float32(180 / np.pi)


def checked(rollout: Rollout) -> LogCheck:
    seen, acted = rollout.observations.shape[1], rollout.actions.shape[1]
    names = tuple(f"q{index}" for index in range(seen)), tuple(f"u{index}" for index in range(acted))
    return check_log(load(rollout.family), Recorded(rollout, *names, episodes=1))


def with_observations(rollout: Rollout, change: Callable[[Array], Array]) -> Rollout:
    return changed(
        rollout, observations=change(rollout.observations), next_observations=change(rollout.next_observations)
    )


def times(columns: list[int], factor: float) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array = array.copy()
        array[:, columns] *= np.float32(factor)
        return array

    return change


@pytest.mark.parametrize("family", ["cheetah-velocity", "cheetah-actuators", "cheetah-length", "reacher-goal"])
@pytest.mark.parametrize("steps", [10, 50])
def test_a_usual_recording_is_usual(family: str, steps: int) -> None:
    found = checked(recorded(family, 50).head(steps))
    assert found.warnings == ()
    assert sum(bool(column.remark) for column in found.columns) <= 2


def test_the_policy_in_service_gives_no_warning_of_units_or_order() -> None:
    mapper = load("cheetah-actuators")
    tasks = get_family("cheetah-actuators").sample("test-in", 2, 0)
    for rollout in record_policies(tasks, mapper.base.policies(np.tile(mapper.base.phi, (2, 1))), episodes=1, seed=0):
        assert checked(rollout).warnings == ()


@pytest.mark.parametrize("factor", [DEGREES, 1 / DEGREES, 1000.0, 1e-3])
@pytest.mark.parametrize(("family", "column"), [("cheetah-velocity", 3), ("cheetah-length", 2)])
def test_units_of_a_column_are_told(family: str, column: int, factor: float) -> None:
    found = checked(with_observations(recorded(family, 50), times([column], factor)))
    (words,) = found.warnings
    assert words.startswith(f"q{column} ")
    assert f"--units q{column}=" in words
    if factor > 1:
        assert [each.name for each in found.columns if "sd from usual" in each.remark] == [f"q{column}"]


def test_units_of_all_observations_actions_and_rewards_are_told() -> None:
    rollout = recorded("cheetah-velocity", 50)
    (words,) = checked(with_observations(rollout, lambda seen: seen * DEGREES)).warnings
    assert words.startswith("all observations")
    assert "--units 'q*'=degrees" in words
    (words,) = checked(changed(rollout, actions=rollout.actions * DEGREES)).warnings
    assert "--units 'u*'=degrees" in words
    (words,) = checked(changed(rollout, rewards=rollout.rewards * 1000)).warnings
    assert "--units rewards=0.001" in words


def order(size: int, *pairs: tuple[int, int]) -> list[int]:
    found = list(range(size))
    for one, other in pairs:
        found[one], found[other] = found[other], found[one]
    return found


def test_exchanged_columns_are_told() -> None:
    rollout = recorded("cheetah-velocity", 50)
    (words,) = checked(with_observations(rollout, lambda seen: seen[:, order(17, (2, 5))])).warnings
    assert words.startswith("q2 and q5 ")
    (words,) = checked(changed(rollout, actions=rollout.actions[:, order(6, (0, 4))])).warnings
    assert words.startswith("u0 and u4 ")


def test_exchanged_legs_are_told() -> None:
    rollout = recorded("cheetah-velocity", 50)
    pairs = [(2, 5), (3, 6), (4, 7), (11, 14), (12, 15), (13, 16)]
    swapped = with_observations(rollout, lambda seen: seen[:, order(17, *pairs)])
    swapped = changed(swapped, actions=rollout.actions[:, order(6, (0, 3), (1, 4), (2, 5))])
    (words,) = checked(swapped).warnings
    assert "halves of the joints" in words


def test_a_recording_of_another_robot_is_told() -> None:
    generator = np.random.default_rng(0)
    rollout = recorded("cheetah-velocity", 50)
    other = with_observations(rollout, lambda seen: generator.normal(30, 20, seen.shape).astype(np.float32))
    assert any("another robot" in words for words in checked(other).warnings) or len(checked(other).warnings) > 3


def test_a_mapper_without_a_self_check_compares_statistics() -> None:
    mapper = load("cheetah-velocity")
    mapper.check = None
    rollout = with_observations(recorded("cheetah-velocity", 50), times([3], 57.3))
    names = tuple(f"q{index}" for index in range(17)), tuple(f"u{index}" for index in range(6))
    found = check_log(mapper, Recorded(rollout, *names, episodes=1))
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("q3: mean")
    assert all(column.surprise is None for column in found.columns)
