"""The whole path in a few calls, and that a zoo does not mix settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import tiny
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, check_settings
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs import MetaMapError
from metamap_rl.adaptation.bundled import bundled_families, load_experts, load_mapper, pretrained_folder, save_experts
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.pipeline import training_pairs


def test_a_zoo_has_the_experts_that_were_asked_for(tiny_zoo: Zoo) -> None:
    for split, count in tiny.COUNTS.by_split().items():
        found = tiny_zoo.experts(split)
        assert {expert.task for expert in found} == set(tiny_zoo.tasks(split, count))
    with pytest.raises(MetaMapError, match="number of validation tasks must be 0 or more, got -1"):
        TaskCounts(validation=-1).tasks(tiny_zoo)


def test_a_mapper_records_how_it_came_about(tiny_mapper: Mapper) -> None:
    assert tiny_mapper.family == tiny.FAMILY
    assert tiny_mapper.probe == {"name": "base-policy", "noise": 0.3}
    assert (tiny_mapper.record["updates"], tiny_mapper.record["training_tasks"]) == (20, 3)


def test_pairs_of_test_tasks_are_refused(tiny_zoo: Zoo) -> None:
    with pytest.raises(MetaMapError, match="unknown split to learn from 'test-in'"):
        training_pairs(tiny_zoo, "test-in", BasePolicyProbe())


def test_going_on_with_other_settings_is_refused_by_name(tiny_zoo: Zoo) -> None:
    same = tiny.SETTINGS
    check_settings(tiny_zoo, RecipeOverrides(same, same))
    with pytest.raises(MetaMapError, match=r"base policy .* n_epochs 2.* 3"):
        check_settings(tiny_zoo, RecipeOverrides(same | {"n_epochs": 3}, same))
    with pytest.raises(MetaMapError, match=r"expert of reacher-goal-.* gamma 0.98.* 0.9"):
        check_settings(tiny_zoo, RecipeOverrides(same, same | {"gamma": 0.9}))
    with pytest.raises(MetaMapError, match="did you mean 'gamma'"):
        check_settings(tiny_zoo, RecipeOverrides(same, {"gama": 0.9}))


def test_a_bundle_comes_back(tiny_bundle: Path, tiny_zoo: Zoo, tiny_mapper: Mapper) -> None:
    assert bundled_families() == (tiny.FAMILY,)
    assert (load_mapper(tiny.FAMILY).arrays()["base.phi"] == tiny_mapper.base.phi).all()
    for loaded, stored in zip(load_experts(tiny.FAMILY), tiny_zoo.experts("test-in"), strict=True):
        assert loaded.task == stored.task
        assert (loaded.phi == stored.phi).all()
        assert (loaded.returns == stored.returns).all()
        assert loaded.record == stored.record
    with pytest.raises(MetaMapError, match="unknown bundled mapper 'reacher-gaol': did you mean 'reacher-goal'"):
        pretrained_folder("reacher-gaol")


def test_a_damaged_bundle_is_refused(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / tiny.FAMILY
    folder.mkdir()
    for path in (tiny_bundle / tiny.FAMILY).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("metamap_rl.adaptation.bundled.PRETRAINED", tmp_path)
    whole = read_json(folder / "experts.json")
    for document in ([], [1], {}, [{"task": 1}], whole[:1], [{**whole[0], "returns": [[1.0]]}, *whole[1:]]):
        write_json(folder / "experts.json", document)
        with pytest.raises(MetaMapError, match=r"expected (a list of experts|an expert|returns)|phi: expected"):
            load_experts(tiny.FAMILY)
    with pytest.raises(MetaMapError, match="at least one expert"):
        save_experts(tmp_path, [])
