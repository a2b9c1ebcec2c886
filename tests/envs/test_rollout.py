"""Rollouts: shapes, types, and no way in for NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metamap_agents.runtime.storage import save_arrays
from metamap_envs import MetaMapError, Rollout, Task, get_family, list_families
from metamap_rl.data.rollout_files import FORMAT, load_rollout, save_rollout

TASK = get_family("reacher-goal").task()


def arrays(count: int = 5) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "observations": generator.normal(size=(count, 8)).astype(np.float32),
        "actions": generator.normal(size=(count, 2)).astype(np.float32),
        "rewards": generator.normal(size=count).astype(np.float32),
        "next_observations": generator.normal(size=(count, 8)).astype(np.float32),
        "terminated": np.zeros(count, dtype=np.bool_),
        "truncated": np.arange(count) == count - 1,
    }


def test_length_head_and_arrays() -> None:
    rollout = Rollout(TASK.family, **arrays(), task=TASK)
    assert len(rollout) == 5
    head = rollout.head(2)
    assert len(head) == 2
    assert head.task == TASK
    for name, array in rollout.arrays().items():
        np.testing.assert_array_equal(head.arrays()[name], array[:2])
    assert len(rollout.head(0)) == 0
    assert len(rollout.head(5)) == 5


def test_numbers_become_float32() -> None:
    rollout = Rollout(TASK.family, **arrays() | {"rewards": np.arange(5.0), "actions": [[1, 2]] * 5})
    assert rollout.rewards.dtype == rollout.actions.dtype == np.float32


@pytest.mark.parametrize("count", [-1, 6])
def test_a_head_longer_than_the_rollout_is_refused(count: int) -> None:
    with pytest.raises(MetaMapError, match=f"5 transitions has no first {count}"):
        Rollout(TASK.family, **arrays()).head(count)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observations", np.zeros((5, 17), np.float32), r"observations expected shape \(5, 8\), got \(5, 17\)"),
        ("actions", np.zeros((4, 2), np.float32), r"actions expected shape \(5, 2\), got \(4, 2\)"),
        ("rewards", np.zeros((5, 1), np.float32), r"rewards expected shape \(5,\), got \(5, 1\)"),
        ("rewards", np.array(["a"] * 5), "rewards expected numbers"),
        ("rewards", np.array([0, 0, np.nan, 0, 0]), "rewards holds NaN or infinity"),
        ("next_observations", np.full((5, 8), 1e300), "next_observations holds NaN or infinity"),
        ("truncated", np.zeros(5), "truncated expected bool, got float64"),
    ],
)
def test_what_does_not_fit_the_family_is_refused_by_name(name: str, value: object, message: str) -> None:
    with pytest.raises(MetaMapError, match=f"rollout of 'reacher-goal': {message}"):
        Rollout(TASK.family, **arrays() | {name: value})


def rows(count: int = 5) -> list[tuple[Any, ...]]:
    return list(zip(*arrays(count).values(), strict=True))


@pytest.mark.parametrize("task", [TASK, None])
def test_rows_give_the_same_rollout_as_arrays(task: Task | None) -> None:
    made = Rollout.from_rows("reacher-goal", rows(), task)
    assert made.task == task
    for name, array in Rollout("reacher-goal", **arrays()).arrays().items():
        np.testing.assert_array_equal(made.arrays()[name], array)
        assert made.arrays()[name].dtype == array.dtype


@pytest.mark.parametrize("name", list_families())
def test_no_rows_give_an_empty_rollout_of_the_right_widths(name: str) -> None:
    family, empty = get_family(name), Rollout.from_rows(name, [])
    assert len(empty) == 0
    assert empty.observations.shape == empty.next_observations.shape == (0, family.observation_size)
    assert empty.actions.shape == (0, family.action_size)
    assert (empty.rewards.dtype, empty.terminated.dtype) == (np.float32, np.bool_)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda row: row[:5], "row 1 expected 6 parts .*, got 5"),
        (lambda row: (row[0][:7], *row[1:]), r"observations expected rows of shape \(8,\), theirs differ"),
        (lambda row: (*row[:2], float("nan"), *row[3:]), "rewards holds NaN"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(changed: Callable[[Any], Any], message: str) -> None:
    made = rows()
    made[1] = changed(made[1])
    with pytest.raises(MetaMapError, match=f"rollout of 'reacher-goal': {message}"):
        Rollout.from_rows("reacher-goal", made)


def test_a_task_of_another_family_and_an_unknown_family_are_refused() -> None:
    with pytest.raises(MetaMapError, match="its task is of family 'cheetah-velocity'"):
        Rollout("reacher-goal", **arrays(), task=get_family("cheetah-velocity").task())
    with pytest.raises(MetaMapError, match="did you mean 'reacher-goal'"):
        Rollout.from_rows("reacher-gaol", rows())


# --------------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("task", [TASK, None])
@pytest.mark.parametrize("count", [0, 5])
def test_a_saved_rollout_comes_back(count: int, task: Task | None, tmp_path: Path) -> None:
    saved = Rollout("reacher-goal", **arrays(count), task=task)
    save_rollout(tmp_path / "d.safetensors", saved)
    loaded = load_rollout(tmp_path / "d.safetensors")
    assert (loaded.family, loaded.task) == (saved.family, saved.task)
    for name, array in saved.arrays().items():
        np.testing.assert_array_equal(loaded.arrays()[name], array)
    save_rollout(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "d.safetensors").read_bytes()


def test_changes_of_the_task_are_kept_apart_from_ends_of_episodes(tmp_path: Path) -> None:
    changed = np.arange(5) == 2
    rollout = Rollout("reacher-goal", **arrays(), changed=changed)
    assert rollout.changed.tolist() == changed.tolist() != rollout.truncated.tolist()
    assert rollout.head(3).changed.tolist() == [False, False, True]
    assert Rollout.from_rows("reacher-goal", rows(), changed=changed.tolist()).changed.tolist() == changed.tolist()
    assert not Rollout("reacher-goal", **arrays()).changed.any()
    save_rollout(tmp_path / "d.safetensors", rollout)
    assert load_rollout(tmp_path / "d.safetensors").changed.tolist() == changed.tolist()
    for bad, message in ((changed[1:], r"changed expected shape \(5,\)"), (np.ones(5), "changed expected bool")):
        with pytest.raises(MetaMapError, match=message):
            Rollout("reacher-goal", **arrays(), changed=bad)


def test_damaged_and_foreign_rollouts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_rollout(path, Rollout("reacher-goal", **arrays(), task=TASK))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(MetaMapError, match="truncated"):
        load_rollout(path)
    save_arrays(path, arrays(), {"format": "metamap-pairs-1"})
    with pytest.raises(MetaMapError, match=r"expected a rollout .*, got 'metamap-pairs-1'"):
        load_rollout(path)
    about = {"format": FORMAT, "about": '{"family": "reacher-goal", "task": null}'}
    save_arrays(path, arrays() | {"actions": np.zeros((5, 6), np.float32)}, about)
    with pytest.raises(MetaMapError, match=r"d\.safetensors: .*actions expected shape \(5, 2\), got \(5, 6\)"):
        load_rollout(path)
    save_arrays(path, {name: array for name, array in arrays().items() if name != "actions"}, about)
    with pytest.raises(MetaMapError, match="expected the arrays observations, actions"):
        load_rollout(path)
    for text in ("{", "[]", '{"family": 3, "task": null}', '{"family": "reacher-goal", "task": [1]}'):
        save_arrays(path, arrays(), {"format": FORMAT, "about": text})
        with pytest.raises(MetaMapError, match=r"d\.safetensors"):
            load_rollout(path)
