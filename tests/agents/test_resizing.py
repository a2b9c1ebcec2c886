"""Zoos in another size: small students of a zoo's policies, resumable, of the same tasks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts import resizing
from metamap_agents.experts.distillation import Distillation, distil, distil_each
from metamap_agents.experts.resizing import Resizing, resize_zoo
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_envs.errors import MetaMapError

BRIEF = Distillation(rounds=1, states=50, steps=30, batch_size=64)
SETTINGS = Resizing(tasks=4, universal=BRIEF, base=BRIEF, expert=BRIEF)


@pytest.fixture(scope="module")
def zoo(tiny_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The tiny zoo with a universal policy."""
    root = tmp_path_factory.mktemp("large") / "zoo"
    shutil.copytree(tiny_zoo.root, root)
    found = Zoo.open(root)
    found.put_universal(tiny.make_universal(found.base))
    return found


def test_the_policies_are_small_and_the_tasks_the_same(zoo: Zoo, tmp_path: Path) -> None:
    small = resize_zoo(zoo, tmp_path / "small", (5, 3), SETTINGS)
    assert small.base.spec.hidden == (5, 3)
    assert small.universal.base_spec == small.base.spec
    assert small.universal.parameters == zoo.universal.parameters
    np.testing.assert_array_equal(small.base.normalizer.mean, zoo.base.normalizer.mean)
    assert {one.task for one in small.experts()} == {one.task for one in zoo.experts()}
    for expert in small.experts():
        assert expert.phi.shape == (small.base.spec.size,)
        teacher = zoo.get(expert.task)
        assert expert.record["teacher"]["returns"] == teacher.returns.tolist()
        again = evaluate_policies([expert.task], small.base.policies(expert.phi), episodes=10, num_threads=1)
        np.testing.assert_allclose(again.returns[0], expert.returns, rtol=1e-5)


def test_a_stopped_run_goes_on_to_the_same_zoo(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resize_zoo(zoo, tmp_path / "whole", (4,), SETTINGS)
    put = Zoo.put

    def stop_at_the_third(self: Zoo, expert: Any) -> None:
        if len(self.experts()) == 2:
            raise KeyboardInterrupt
        put(self, expert)

    monkeypatch.setattr(Zoo, "put", stop_at_the_third)
    monkeypatch.setattr(resizing, "_GROUP", 2)
    with pytest.raises(KeyboardInterrupt):
        resize_zoo(zoo, tmp_path / "part", (4,), SETTINGS)
    monkeypatch.setattr(Zoo, "put", put)
    part = resize_zoo(zoo, tmp_path / "part", (4,), SETTINGS)
    np.testing.assert_array_equal(part.universal.phi, whole.universal.phi)
    for expert in whole.experts():
        np.testing.assert_allclose(part.get(expert.task).phi, expert.phi, atol=1e-4)


def test_what_cannot_be_resized_is_refused(zoo: Zoo, tiny_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match="universal policy"):
        resize_zoo(tiny_zoo, tmp_path / "none", (4,), SETTINGS)
    assert not (tmp_path / "none").exists()
    resize_zoo(zoo, tmp_path / "four", (4,), SETTINGS)
    with pytest.raises(MetaMapError, match="other settings"):
        resize_zoo(zoo, tmp_path / "four", (5,), SETTINGS)
    with pytest.raises(MetaMapError, match="hidden"):
        resize_zoo(zoo, tmp_path / "zero", (0,), SETTINGS)
    assert not (tmp_path / "zero").exists()


def test_students_of_several_tasks_are_those_of_each_task_alone(tiny_zoo: Zoo) -> None:
    experts = tiny_zoo.experts("train")
    tasks = [one.task for one in experts]
    policy = BatchedPolicy(tiny_zoo.base.policies(np.stack([one.phi for one in experts])))
    together = distil_each(tasks, tiny_zoo.base, policy, BRIEF, seeds=[3, 4, 5])
    for index, (task, seed) in enumerate(zip(tasks, (3, 4, 5), strict=True)):
        teacher = BatchedPolicy(tiny_zoo.base.policies(experts[index].phi[None]))

        def act(observations: np.ndarray[Any, Any], teacher: BatchedPolicy = teacher) -> np.ndarray[Any, Any]:
            return teacher(observations[None])[0]

        alone = distil(task, tiny_zoo.base, act, BRIEF, seed=seed)
        np.testing.assert_allclose(together[index].phi, alone.phi, atol=1e-4)
        assert together[index].environment_steps == alone.environment_steps


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "_CHOICE_EPISODES", 1)
    return
