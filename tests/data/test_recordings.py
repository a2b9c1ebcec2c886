"""Columns of a recording become a rollout: names, units, episodes, gaps, missing parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.policies import base_of
from helpers.recordings import FAMILY, numbered, recorded, write_csv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.data.columns import ColumnMapping, read_mapping
from metamap_rl.data.readers import Recording
from metamap_rl.data.recordings import Recorded, read_rollout, rollout_of
from metamap_rl.probing.recording import record_policies

Columns = dict[str, NDArray[Any]]


def made(columns: Columns, family: str = FAMILY, *words: str, units: tuple[str, ...] = ()) -> Recorded:
    return rollout_of(Recording(columns, "log"), family, read_mapping(None, words, units))


def robot(steps: int = 70) -> Columns:
    """A recording with names of its own, without next observations and flags."""
    rollout = recorded(steps=steps)
    names = [f"q{index}" for index in range(8)]
    columns = dict(zip(names, rollout.observations.T, strict=True))
    return {**columns, "motor_b": rollout.actions[:, 1], "motor_a": rollout.actions[:, 0], "gain": rollout.rewards}


NAMES = ("observations=q*", "actions=motor_a,motor_b", "rewards=gain")

# names and units ------------------------------------------------------------------------------------------------------


def test_columns_are_named_in_the_order_of_the_family(tmp_path: Path) -> None:
    rollout = recorded(steps=40)
    found = made(robot(40), FAMILY, *NAMES)
    np.testing.assert_array_equal(found.rollout.observations, rollout.observations[:-1])
    np.testing.assert_array_equal(found.rollout.next_observations, rollout.next_observations[:-1])
    np.testing.assert_array_equal(found.rollout.actions, rollout.actions[:-1])
    assert found.actions == ("motor_a", "motor_b")
    path = tmp_path / "log.yml"
    path.write_text(
        "observations: q*\nactions: [motor_a, motor_b]\nrewards: gain\nunits: {q1: degrees, 'motor_*': 0.5}\n"
    )
    mapped = read_rollout(write_csv(tmp_path / "log.csv", robot(40)), FAMILY, read_mapping(path))
    np.testing.assert_allclose(
        mapped.rollout.observations[:, 1], found.rollout.observations[:, 1] * np.pi / 180, rtol=1e-6
    )
    np.testing.assert_array_equal(mapped.rollout.actions, found.rollout.actions * np.float32(0.5))


def test_elements_of_lists_are_named(tmp_path: Path) -> None:
    rollout = recorded(steps=40)
    columns: Columns = {
        "state": np.concatenate([rollout.actions, rollout.observations], axis=1),
        "gain": rollout.rewards,
    }
    found = made(columns, FAMILY, "observations=state[2:9],state[9]", "actions=state[0:2]", "rewards=gain")
    np.testing.assert_array_equal(found.rollout.observations, rollout.observations[:-1])
    assert found.observations[-1] == "state[9]"


def test_units_of_observations_are_those_of_next_observations() -> None:
    columns = numbered(recorded(steps=40))
    found = made(columns, units=("obs_1=2",)).rollout
    np.testing.assert_array_equal(found.next_observations[:, 1], 2 * columns["next_obs_1"])
    found = made(columns, units=("obs_1=2", "next_obs_1=3")).rollout
    np.testing.assert_array_equal(found.next_observations[:, 1], 3 * columns["next_obs_1"])


@pytest.mark.parametrize(
    ("words", "units", "message"),
    [
        (("observatoins=q*",), (), "did you mean 'observations'"),
        (("observations=q1,q9", *NAMES[1:]), (), "no column 'q9': did you mean"),
        (("observations=q0,q0", *NAMES[1:]), (), "'q0' is named twice"),
        (("observations=q0,q1", *NAMES[1:]), (), "expected 8 columns, those of 'reacher-goal', got 2: q0, q1"),
        ((*NAMES[:2], "rewards=q0,q1"), (), "rewards: expected one column, got q0, q1"),
        (NAMES[1:], (), "no column for observations"),
        (NAMES[::2], (), "no column for actions"),
        (NAMES[:2], (), "no column for rewards, and those of 'reacher-goal' cannot be computed"),
        (NAMES, ("q0=parsecs",), "expected a number or one of degrees"),
        (NAMES, ("q0=0",), "other than 0"),
        (NAMES, ("q0",), "NAME=FACTOR"),
        (NAMES, ("x=2",), "no column 'x'"),
        (("observations",), (), "ROLE=NAME"),
    ],
)
def test_columns_that_do_not_fit_are_refused(words: tuple[str, ...], units: tuple[str, ...], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        made(robot(), FAMILY, *words, units=units)


def test_usual_names_may_be_numbered_from_one_without_gaps() -> None:
    columns = numbered(recorded(steps=40))
    from_one = {
        f"obs[{int(name[4:]) + 1}]" if name.startswith("obs_") else name: array for name, array in columns.items()
    }
    np.testing.assert_array_equal(made(from_one).rollout.observations, made(columns).rollout.observations)
    del columns["obs_3"]
    with pytest.raises(MetaMapError, match="number 3 is not"):
        made(columns)


# parts that are missing -----------------------------------------------------------------------------------------------


def test_one_observation_more_than_actions_is_an_episode() -> None:
    rollout = recorded(steps=40)
    seen = np.concatenate([rollout.observations, rollout.next_observations[-1:]])
    found = made({"observations": seen, "actions": rollout.actions, "rewards": rollout.rewards[:, None]})
    np.testing.assert_array_equal(found.rollout.next_observations, rollout.next_observations)
    assert (found.notes, found.episodes) == ((), 1)


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), by=st.sampled_from(["episode", "done", "time"]))
def test_no_transition_spans_two_episodes(lengths: list[int], by: str) -> None:
    number = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    count = len(step)
    seen = np.stack([number, step, *np.zeros((6, count))], axis=1)
    marks = {
        "episode": {"episode_index": number},
        "done": {"done": np.append(np.diff(number) > 0, False)},
        "time": {"time": 0.02 * step},
    }[by]
    columns: Columns = {"observations": seen, "actions": np.zeros((count, 2)), "rewards": np.zeros(count), **marks}
    if by == "time" and max(lengths) == 1:
        return  # times that never increase are refused
    if max(lengths) == 1:
        with pytest.raises(MetaMapError, match="has no transitions"):
            made(columns)
        return
    found = made(columns)
    assert len(found.rollout) == count - len(lengths)
    np.testing.assert_array_equal(found.rollout.next_observations[:, 0], found.rollout.observations[:, 0])
    np.testing.assert_array_equal(found.rollout.next_observations[:, 1], found.rollout.observations[:, 1] + 1)
    assert found.episodes == sum(length > 1 for length in lengths)


def test_no_transition_spans_a_gap_in_time() -> None:
    time = 0.02 * np.arange(70)
    time[30:] += 0.1
    found = made({**robot(), "t": time}, FAMILY, *NAMES)
    assert len(found.rollout) == 68
    assert any("gap" in note for note in found.notes)
    assert found.seconds == pytest.approx(0.02)


def test_another_time_step_is_told_and_the_run_goes_on() -> None:
    found = made({**robot(), "timestamp": 0.005 * np.arange(70)}, FAMILY, *NAMES)
    assert any("0.005 s apart" in note and "0.02 s" in note for note in found.notes)
    assert len(found.rollout) == 69
    with pytest.raises(MetaMapError, match="increase"):
        made({**robot(), "timestamp": np.zeros(70)}, FAMILY, *NAMES)


def test_missing_rewards_are_computed_where_the_family_can() -> None:
    family = get_family("cartpole-swingup")
    base = base_of(family)
    (rollout,) = record_policies(family.sample("test-in", 1, 0), base.policies(base.phi[None]), episodes=1, seed=0)
    arrays = {name: array for name, array in rollout.arrays().items() if name != "rewards"}
    found = made(arrays, family.name)
    np.testing.assert_allclose(found.rollout.rewards, rollout.rewards, atol=1e-4 * np.abs(rollout.rewards).max())
    assert any("rewards" in note for note in found.notes)


def test_a_mapper_that_reads_no_rewards_needs_none() -> None:
    recording = Recording({key: value for key, value in robot().items() if key != "gain"}, "log")
    mapping = ColumnMapping(observations=("q*",), actions=("motor_a", "motor_b"))
    assert not rollout_of(recording, FAMILY, mapping, needs_rewards=False).rollout.rewards.any()


# what is wrong with numbers -------------------------------------------------------------------------------------------


def test_nan_is_refused_with_its_place_but_where_it_is_no_transition() -> None:
    columns = {name: array.astype(float) for name, array in robot().items()}
    columns["motor_a"][-1] = np.nan  # after the last observation
    assert len(made(columns, FAMILY, *NAMES).rollout) == 69
    columns["q3"][17] = np.nan
    with pytest.raises(MetaMapError, match="q3: expected numbers, row 17"):
        made(columns, FAMILY, *NAMES)


def test_flags_other_than_zero_and_one_are_refused() -> None:
    columns = numbered(recorded(steps=40))
    with pytest.raises(MetaMapError, match="truncated: expected 0 or 1, got 2 in row 5"):
        made({**columns, "truncated": np.where(np.arange(40) == 5, 2, 0)})


def test_text_and_lists_of_lists_are_refused() -> None:
    columns = robot()
    with pytest.raises(MetaMapError, match="q0: expected numbers, got 'on' on line 4"):
        made({**columns, "q0": np.array(["", "", "'on' on line 4"] + [""] * 67)}, FAMILY, *NAMES)
    with pytest.raises(MetaMapError, match=r"one row for each step.*a\[:, 0\]"):
        made({"observations": np.zeros((70, 2, 8)), "actions": np.zeros((70, 2, 2)), "rewards": np.zeros((70, 2))})
    with pytest.raises(MetaMapError, match="expected 70 rows, as actions have, got 69"):
        made({**columns, "gain": columns["gain"][:-1]}, FAMILY, *NAMES)


def test_actions_beyond_the_range_of_the_family_are_told() -> None:
    found = made(robot(), FAMILY, *NAMES, units=("motor_b=57.3",))
    assert any(note.startswith("motor_b") and "[-1, 1]" in note for note in found.notes)
    assert not any(note.startswith("motor_a") for note in found.notes)
