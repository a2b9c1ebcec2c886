"""Imported policies become experts: by their weights, to rounding, or by distillation, with what is lost stored."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO, SAC

from helpers.foreign import ACTIONS, OBSERVATIONS, Blank, sb3_model, seen
from helpers.tiny import COUNTS, FAMILY, SEED, SETTINGS
from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.filling import RecipeOverrides, fill_zoo
from metamap_agents.experts.import_tasks import given_task, own_action_range, task_of_zoo
from metamap_agents.experts.importing import EXACT, ImportSettings, extract, import_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.importers import ForeignPolicy, ImportOptions, read_policy
from metamap_agents.policy.acting import BatchedPolicy
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family

SMALL = ImportSettings(episodes=10, distillation=Distillation(rounds=1, states=200, steps=20))
TASK = get_family(FAMILY).task({"goal_radius": 0.1})


def stored(folder: Path, algorithm: Any = PPO, options: ImportOptions | None = None, **kwargs: Any) -> ForeignPolicy:
    """A policy for the sizes of reacher-goal."""
    sb3_model(algorithm, Blank((-2.0, 0.0), (2.0, 1.0)), policy_kwargs=kwargs).save(folder / "model.zip")
    return read_policy(folder / "model.zip", options)


@pytest.mark.parametrize("hidden", [[64, 64], [7, 64], [3, 5]])
@pytest.mark.parametrize("normalised", [False, True])
def test_weights_that_fit_are_taken_over(tmp_path: Path, tiny_zoo: Zoo, hidden: list[int], normalised: bool) -> None:
    options = ImportOptions()
    if normalised:
        np.savez(tmp_path / "n.npz", mean=np.arange(OBSERVATIONS), std=np.linspace(0.5, 3, OBSERVATIONS))
        options = ImportOptions(normalizer=tmp_path / "n.npz")
    policy = stored(tmp_path, options=options, net_arch=hidden)
    phi = extract(policy, tiny_zoo.base)
    assert not isinstance(phi, str)
    ours = BatchedPolicy(tiny_zoo.base.policies(phi[None]))(seen()[None])[0]
    np.testing.assert_allclose(ours, policy.act(seen()), atol=EXACT)


def test_an_extracted_expert_loses_nothing(tmp_path: Path, tiny_zoo: Zoo) -> None:
    expert = import_expert(TASK, tiny_zoo.base, stored(tmp_path), SMALL)
    about = expert.record["imported"]
    assert about["method"] == "extract"
    assert about["largest_difference"] <= EXACT
    assert about["loss"]["lost"] == pytest.approx(0.0, abs=1e-3)
    assert len(about["loss"]["policy_returns"]) == 10
    assert about["file"] == "model.zip"
    assert not expert.record["worse_than_teacher"]


def test_a_policy_of_another_shape_is_distilled(tmp_path: Path, tiny_zoo: Zoo) -> None:
    policy = stored(tmp_path, SAC, net_arch=[8])
    first, second = (import_expert(TASK, tiny_zoo.base, policy, SMALL, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.phi, second.phi)
    about = first.record["imported"]
    assert about["method"] == "distil"
    assert len(about["distillation"]["losses"]) == 2
    loss = about["loss"]
    lost = np.array(loss["policy_returns"]) - loss["expert_returns"]
    assert loss["lost"] == pytest.approx(lost.mean())
    assert loss["percent"] == pytest.approx(100 * lost.mean() / abs(np.mean(loss["policy_returns"])))
    np.testing.assert_allclose(first.returns, loss["expert_returns"])
    assert loss["base_return"] == pytest.approx(first.base_returns.mean())
    assert first.record["steps"] > 0


def test_a_clip_that_the_policy_reaches_is_not_extracted(tmp_path: Path, tiny_zoo: Zoo) -> None:
    np.savez(tmp_path / "n.npz", mean=np.zeros(OBSERVATIONS), std=np.full(OBSERVATIONS, 1e-3), clip=0.1)
    policy = stored(tmp_path, options=ImportOptions(normalizer=tmp_path / "n.npz"))
    about = import_expert(TASK, tiny_zoo.base, policy, SMALL).record["imported"]
    assert about["method"] == "distil"
    assert "on the states that it visits" in about["reason"]


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "reason"),
    [
        (SAC, {}, "squashed by tanh"),
        (PPO, {"net_arch": [64]}, r"hidden layers are \[64\]"),
        (PPO, {"net_arch": [65, 64]}, r"hidden layers are \[65, 64\]"),
    ],
)
def test_weights_that_do_not_fit_are_told(
    tmp_path: Path, tiny_zoo: Zoo, algorithm: Any, kwargs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MetaMapError, match=reason):
        import_expert(TASK, tiny_zoo.base, stored(tmp_path, algorithm, **kwargs), replace(SMALL, method="extract"))


def test_a_policy_of_another_robot_is_refused(tmp_path: Path, tiny_zoo: Zoo) -> None:
    policy = stored(tmp_path)
    with pytest.raises(MetaMapError, match=f"{OBSERVATIONS} observations and {ACTIONS} actions"):
        import_expert(get_family("cheetah-velocity").task(), tiny_zoo.base, policy, SMALL)
    with pytest.raises(MetaMapError, match="at least 10"):
        ImportSettings(episodes=9)
    with pytest.raises(MetaMapError, match="did you mean 'distil'"):
        ImportSettings(method="distill")  # type: ignore[arg-type]


def test_a_zoo_with_imported_experts_can_be_filled_further(tmp_path: Path, tiny_zoo: Zoo) -> None:
    shutil.copytree(tiny_zoo.root, tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    zoo.put(import_expert(TASK, zoo.base, stored(tmp_path), SMALL))
    assert zoo.get(TASK).record["imported"]["method"] == "extract"
    fill_zoo(zoo.root, FAMILY, COUNTS, seed=SEED, overrides=RecipeOverrides(SETTINGS, SETTINGS))


def test_tasks_by_parameters_and_by_id(tiny_zoo: Zoo) -> None:
    family = get_family("cheetah-velocity")
    assert given_task(family, {"target_velocity": 2.0}, "train").split == "train"
    outside = family.space.parameters[0].high
    with pytest.raises(MetaMapError, match="outside of the training range"):
        given_task(family, {"target_velocity": outside}, "train")
    task = tiny_zoo.tasks("validation", 3)[2]
    assert task_of_zoo(tiny_zoo, task.id) == task
    with pytest.raises(MetaMapError, match=f"did you mean '{task.id}'"):
        task_of_zoo(tiny_zoo, f"{task.id}0")


def test_actions_of_a_family_s_own_environment() -> None:
    assert own_action_range(get_family("pendulum-torque"))[1] == pytest.approx([2.0])
    assert own_action_range(get_family(FAMILY))[0] == pytest.approx([-1.0, -1.0])
