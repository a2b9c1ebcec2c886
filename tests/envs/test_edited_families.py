"""What was made with one declaration of a family is not gone on with when its file says something else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs import Family, MetaMapError, Rollout, get_family, load_family, registry
from metamap_envs.identity import check_environments, environment_id
from metamap_rl.data.rollout_files import load_rollout, save_rollout
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales

DECLARATION: dict[str, Any] = {
    "name": "pend",
    "environment": "Pendulum-v1",
    "horizon": 100,
    "parameters": {"p": {"argument": "g", "train": [5, 15]}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "horizon": {"horizon": 200},
    "parameters.p.train": {"parameters": {"p": {"argument": "g", "train": [5, 16]}}},
    "parameters.p.attribute": {"parameters": {"p": {"attribute": "max_torque", "train": [5, 15], "default": 10}}},
    "parameters.q": {"parameters": {**DECLARATION["parameters"], "q": {"attribute": "m", "train": [1, 2]}}},
    "arguments.g": {"arguments": {"g": 9}, "parameters": {"p": {"attribute": "m", "train": [1, 2]}}},
}


class Declared:
    """The file of a family, as processes that start one after another find it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str | None = None, **changes: Any) -> Family:
        registry._DECLARED.pop("pend", None)
        gym.registry.pop("MetaMap/Pend-v0", None)
        self.path.write_text(json.dumps({**DECLARATION, **changes}) if text is None else text)
        return load_family(self.path)


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(registry.VARIABLE, "")
    yield Declared(tmp_path / "pend.yml")
    registry._DECLARED.pop("pend", None)
    gym.registry.pop("MetaMap/Pend-v0", None)


def _rollout() -> Rollout:
    rows = [(np.zeros(3), np.zeros(1), 0.0, np.zeros(3), False, False)] * 4
    return Rollout.from_rows("pend", rows)


def _mapper() -> Mapper:
    spec = PolicySpec(3, 1, (4,))
    base = BasePolicy(spec, random_actor(spec, 0), ObservationNormalizer.identity(3), np.zeros(1, np.float32))
    features = torch.zeros(1, 4, 2 * 3 + 1 + 1 + 1)
    scales = Scales.of_first_task(features, torch.from_numpy(base.phi), torch.zeros(spec.size))
    return Mapper(MapperConfig(), base, family="pend", scales=scales)


@pytest.mark.parametrize("key", OTHERS)
def test_another_declaration_is_refused(key: str, declared: Declared, tmp_path: Path) -> None:
    declared()
    Zoo.create(tmp_path / "zoo", "pend", 0)
    save_rollout(tmp_path / "d.safetensors", _rollout())
    _mapper().save(tmp_path / "mapper")
    environments = {"pend": environment_id("pend")}
    declared(**OTHERS[key])
    for again in (
        lambda: Zoo.open(tmp_path / "zoo"),
        lambda: Zoo.create(tmp_path / "zoo", "pend", 0),
        lambda: load_rollout(tmp_path / "d.safetensors"),
        lambda: Mapper.load(tmp_path / "mapper"),
    ):
        with pytest.raises(MetaMapError, match="another declaration of the family 'pend'") as caught:
            again()
        assert key in str(caught.value)
    with pytest.raises(MetaMapError, match="by now"):
        check_environments(environments, "a stream")


SAME = """
# the same, written by somebody else
parameters:
  p:
    train: [[5.0, 1.5e+1]]
    argument: g
    how: set
    unit: m/s^2
    description: Gravity
description: A pendulum
horizon: 1e2
arguments: {}
environment: Pendulum-v1
name: pend
version: 0
"""


def test_another_text_of_the_same_declaration_goes_on(declared: Declared, tmp_path: Path) -> None:
    declared()
    Zoo.create(tmp_path / "zoo", "pend", 0)
    save_rollout(tmp_path / "d.safetensors", _rollout())
    _mapper().save(tmp_path / "mapper")
    environments = {"pend": environment_id("pend")}
    declared(SAME)
    assert Zoo.create(tmp_path / "zoo", "pend", 0).seed == 0
    assert len(load_rollout(tmp_path / "d.safetensors")) == 4
    assert Mapper.load(tmp_path / "mapper").family == "pend"
    check_environments(environments, "a stream")


def test_the_order_of_parameters_counts_since_tasks_are_drawn_in_it(declared: Declared, tmp_path: Path) -> None:
    two = {"p": {"argument": "g", "train": [5, 15]}, "q": {"attribute": "m", "train": [1, 2]}}
    first = declared(parameters=two).sample("train", 3, 0)
    Zoo.create(tmp_path / "zoo", "pend", 0)
    text = json.dumps({**DECLARATION, "parameters": dict(reversed(two.items()))})
    assert declared(text).sample("train", 3, 0) != first
    with pytest.raises(MetaMapError, match="order"):
        Zoo.open(tmp_path / "zoo")


def test_what_is_older_than_the_record_is_read(declared: Declared, tmp_path: Path) -> None:
    declared()
    Zoo.create(tmp_path / "zoo", "pend", 0)
    _mapper().save(tmp_path / "mapper")
    for path in (tmp_path / "zoo" / "zoo.json", tmp_path / "mapper" / "mapper.json"):
        document = json.loads(path.read_text())
        del document["environment"]
        path.write_text(json.dumps(document))
    declared(horizon=200)
    assert Zoo.open(tmp_path / "zoo").seed == 0
    assert Mapper.load(tmp_path / "mapper").family == "pend"
    check_environments({"pend": "MetaMap/Pend-v0"}, "a stream")


def test_another_version_is_refused(declared: Declared, tmp_path: Path) -> None:
    declared()
    _mapper().save(tmp_path / "mapper")
    save_rollout(tmp_path / "d.safetensors", _rollout())
    declared(version=1)
    gym.registry.pop("MetaMap/Pend-v1", None)
    for again in (lambda: Mapper.load(tmp_path / "mapper"), lambda: load_rollout(tmp_path / "d.safetensors")):
        with pytest.raises(MetaMapError, match="version 0, installed is version 1"):
            again()


@pytest.mark.parametrize("text", ["1e-3", "9.81", "-5", " 3 "])
def test_numbers_that_are_text_are_no_arguments(text: str, declared: Declared) -> None:
    with pytest.raises(MetaMapError, match=r"arguments\.g: .* is text, expected a number"):
        declared(arguments={"g": text}, parameters={"p": {"attribute": "m", "train": [1, 2]}})


def test_scientific_notation_is_a_number(declared: Declared) -> None:
    text = (
        "{name: pend, environment: Pendulum-v1, arguments: {g: 1e-3}, parameters: {p: {attribute: m, train: [1e0, 2]}}}"
    )
    family = declared(text)
    assert family.make(family.task()).unwrapped.g == 1e-3  # type: ignore[attr-defined]


def test_a_name_that_a_listed_file_declares_otherwise_is_refused(
    declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers find families by that list: they would train in the other file's environments."""
    other, same = tmp_path / "other.yml", tmp_path / "same.yml"
    other.write_text(json.dumps({**DECLARATION, "horizon": 200}))
    same.write_text(json.dumps(DECLARATION))
    monkeypatch.setenv(registry.VARIABLE, str(other))
    for declare in (declared, lambda: registry.from_gymnasium(DECLARATION)):
        with pytest.raises(MetaMapError, match=r"'pend'.*'.*other\.yml'"):
            declare()
    monkeypatch.setenv(registry.VARIABLE, f"{same}{os.pathsep}{other}")
    with pytest.raises(MetaMapError, match=r"'pend'.*'.*other\.yml'"):
        registry.find_declared("pend")
    monkeypatch.setenv(registry.VARIABLE, str(same))
    declared()
    assert os.environ[registry.VARIABLE] == f"{declared.path}{os.pathsep}{same}", (
        "workers take the file that was taken here"
    )


def _horizon(name: str) -> int:
    return get_family(name).horizon


def test_a_worker_refuses_another_declaration_than_its_callers(declared: Declared) -> None:
    declared()
    with LocalExecutor(2) as executor:
        assert dict(executor.run(_horizon, [("pend",)])) == {0: 100}
    declared.path.write_text(json.dumps({**DECLARATION, "horizon": 200}))
    with LocalExecutor(2) as executor, pytest.raises(MetaMapError, match=r"'pend'.*worker"):
        dict(executor.run(_horizon, [("pend",)]))
