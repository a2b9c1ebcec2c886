"""Tasks: immutable, hashable, JSON-able."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamap_envs import MetaMapError, Task, get_family, list_families


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(list_families()), seed=st.integers(0, 2**31), split=st.sampled_from(["train", "test-in"]))
def test_json_gives_back_the_same_task(name: str, seed: int, split: str) -> None:
    (task,) = get_family(name).sample(split, 1, seed)
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again == task
    assert hash(again) == hash(task)
    assert again.id == task.id
    assert again.split == split


@pytest.mark.parametrize("name", list_families())
def test_a_task_is_immutable_and_its_id_is_a_safe_file_name(name: str) -> None:
    task = get_family(name).task()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.split = "train"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        task.values[0] = 1.0
    assert re.fullmatch(r"[a-z0-9-]+", task.id)
    assert task.values.tolist() == [value for _, value in task.parameters]
    copied = pickle.loads(pickle.dumps(task))  # noqa: S301  # processes of one program hand tasks to one another
    assert copied == task
    assert not copied.values.flags.writeable


def test_the_id_is_stable_and_depends_on_parameters_only() -> None:
    family = get_family("cheetah-velocity")
    task = family.task({"target_velocity": 1.25})
    assert task.id == "cheetah-velocity-7cf8475f56"
    assert family.task({"target_velocity": 1.25}, split="train").id == task.id
    assert family.task({"target_velocity": 1.250001}).id != task.id
    assert family.task({"target_velocity": -0.0}).id == family.task({"target_velocity": 0}).id


def test_describe_and_lookup() -> None:
    task = get_family("reacher-goal").task({"goal_radius": 0.1})
    assert task.describe() == "goal_radius=0.1, goal_angle=0"
    assert task["goal_radius"] == 0.1
    with pytest.raises(KeyError):
        task["radius"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "JSON object"),
        ({"family": "cheetah-velocity", "parameters": {}}, "'split'"),
        ({"family": "cheetah-velocty", "parameters": {}, "split": "train"}, "did you mean 'cheetah-velocity'"),
        ({"family": ["x"], "parameters": {}, "split": "train"}, "unknown family"),
        ({"family": "cheetah-velocity", "parameters": {"speed": 1}, "split": "train"}, "unknown parameter"),
        ({"family": "cheetah-velocity", "parameters": {"target_velocity": "1"}, "split": "train"}, "number"),
        ({"family": "cheetah-velocity", "parameters": [1], "split": "train"}, "mapping"),
        ({"family": "cheetah-velocity", "parameters": {}, "split": "tests-in"}, "did you mean 'test-in'"),
    ],
)
def test_bad_documents_are_refused(document: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        Task.from_json(document)
