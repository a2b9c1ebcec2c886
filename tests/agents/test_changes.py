"""Training with changes: tasks drawn anew in PPO's episodes, starts where wrong policies led."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.changes import (
    Changes,
    TaskDraw,
    both,
    training_envs,
    wrong_experts,
    wrong_gains,
    wrong_starts,
)
from metamap_agents.experts.filling import check_recipes
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base, train_expert, train_universal
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.sb3.conditioned import ConditionedVecEnv
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError, get_family
from metamap_envs.changing import ChangingVectorEnv

FAMILY = tiny.FAMILY
CHANGES = {"rate": 0.05, "wrong_starts": 0.5, "wrong_steps": [3, 9], "refresh": 2}
SETTINGS: dict[str, Any] = {**tiny.SETTINGS, "n_timesteps": 600}


@pytest.fixture(scope="module")
def base() -> BasePolicy:
    return train_base(FAMILY, load_recipe(FAMILY, "base", **tiny.SETTINGS), seed=0, num_threads=1)


def environments(count: int, **changes: Any) -> FamilyVecEnv:
    draw = TaskDraw(FAMILY)
    return training_envs(draw(count, 0), Changes(**changes), draw, 0, None, 1)


def test_coordinates_follow_the_task_at_once(base: BasePolicy) -> None:
    universal = tiny.make_universal(base)
    fast = environments(4, rate=0.1)
    envs = ConditionedVecEnv(fast, universal.coordinates)
    observations = envs.reset()
    changed = 0
    for _ in range(get_family(FAMILY).horizon):
        before = universal.coordinates(fast.envs.tasks)
        np.testing.assert_array_equal(observations[:, -before.shape[1] :], before)
        observations, _, dones, infos = envs.step(np.zeros((4, 2), np.float32))
        changed += int((universal.coordinates(fast.envs.tasks) != before).any(axis=1).sum())
    assert changed > 5
    assert dones.all()
    for info, row in zip(infos, before, strict=True):
        np.testing.assert_array_equal(info["terminal_observation"][-len(row) :], row)


def test_wrong_policies_fill_the_pool_every_so_many_rollouts(base: BasePolicy) -> None:
    fast = environments(4, wrong_starts=1.0, wrong_steps=(3, 9), refresh=2)
    pool = fast.envs.pool  # type: ignore[attr-defined]
    draw = TaskDraw(FAMILY)
    starts = wrong_starts(fast, Changes(**CHANGES), draw, wrong_gains(base.policies), 0, 1)
    assert starts is not None
    sizes = []
    for _ in range(4):
        assert starts(0, base.phi)
        sizes.append(len(pool))
    assert 0 < sizes[0] == sizes[1] < sizes[2] == sizes[3] <= 2 * 4 * 4
    assert starts(0, np.full_like(base.phi, np.nan))
    assert len(pool) == sizes[3], "weights that are not finite are left to PPO"
    times = {round(float(snapshot.row[0]) / get_family(FAMILY).step_seconds) for snapshot in pool}
    assert times <= set(range(3, 10))
    assert len(times) > 2
    observations = np.asarray(fast.reset())
    known = {snapshot.state.qvel.tobytes() for snapshot in pool}
    assert {row.tobytes() for row in fast.envs._before.qvel} <= known
    assert fast.envs.tasks[0] in [snapshot.task for snapshot in pool]
    assert len(observations) == 4


def test_wrong_policies_are_experts_of_other_tasks_or_have_other_gains(base: BasePolicy) -> None:
    universal = tiny.make_universal(base)
    generator = np.random.default_rng(0)
    found = wrong_experts(replace(universal, phi=np.zeros_like(universal.phi)), base.policies)(
        universal.phi, 5, generator
    )
    expected = [universal.expert_for(task) for task in get_family(FAMILY).sample("train", 5, np.random.default_rng(0))]
    np.testing.assert_array_equal(found.phi, np.stack(expected))
    gains = wrong_gains(base.policies)(base.phi, 5, generator)
    last = base.spec.split(gains.phi)["layers.2.bias"] / base.spec.split(base.phi)["layers.2.bias"]
    assert (np.abs(last) <= 1 + 1e-6).all()
    assert len(np.unique(last)) == last.size


def test_training_with_changes_depends_on_the_seed_alone(base: BasePolicy) -> None:
    recipe = load_recipe(FAMILY, "base", **SETTINGS, changes=CHANGES)
    first, second = (train_base(FAMILY, recipe, seed=0, num_threads=threads) for threads in (1, 2))
    assert np.array_equal(first.phi, second.phi)
    assert np.array_equal(first.normalizer.mean, second.normalizer.mean)
    plain = train_base(FAMILY, load_recipe(FAMILY, "base", **SETTINGS), seed=0, num_threads=1)
    assert not np.array_equal(first.phi, plain.phi)
    off = load_recipe(FAMILY, "base", **SETTINGS, changes={"rate": 0, "wrong_starts": 0})
    assert off.changes is None
    universal = load_recipe(FAMILY, "parent", **{**SETTINGS, "start": "random"}, changes=CHANGES)
    made = [train_universal(FAMILY, base, universal, seed=0, num_threads=1) for _ in range(2)]
    assert np.array_equal(made[0].phi, made[1].phi)
    task = get_family(FAMILY).sample("train", 1, 0)[0]
    starts = {"changes": {**CHANGES, "rate": 0.0}}
    experts = [
        train_expert(task, base, load_recipe(FAMILY, "expert", **SETTINGS, **more), seed=0).phi
        for more in (starts, starts, {})
    ]
    assert np.array_equal(experts[0], experts[1])
    assert not np.array_equal(experts[0], experts[2])


def test_both_callbacks_are_called_and_either_may_be_missing(base: BasePolicy) -> None:
    seen: list[int] = []

    def watch(steps: int, phi: np.ndarray) -> bool:
        seen.append(steps)
        return steps < 2

    fast = environments(4, wrong_starts=1.0)
    starts = wrong_starts(fast, Changes(wrong_starts=1.0), TaskDraw(FAMILY), wrong_gains(base.policies), 0, 1)
    assert both(None, None) is None
    assert both(starts, None) is starts
    assert both(None, watch) is watch
    together = both(starts, watch)
    assert together is not None
    assert together(1, base.phi)
    assert fast.envs.pool  # type: ignore[attr-defined]
    assert not together(2, base.phi)
    assert seen == [1, 2]


def test_without_changes_the_environments_are_the_usual_ones() -> None:
    draw = TaskDraw(FAMILY)
    plain = training_envs(draw(2, 0), None, draw, 0, None, 1)
    assert not isinstance(plain.envs, ChangingVectorEnv)
    assert wrong_starts(plain, None, draw, wrong_gains(lambda phi: None), 0, 1) is None  # type: ignore[arg-type, return-value]
    kept = TaskDraw("cartpole-swingup", frozenset({"sign_motor"}))
    assert {task["sign_motor"] for task in kept(20, 0)} == {1.0}


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        ("base", {"changes": {"rate": 1.5}}, "changes.rate: .*less than or equal to 1, got 1.5"),
        ("base", {"changes": {"wrong_starts": -0.1}}, "changes.wrong_starts: .*got -0.1"),
        ("base", {"changes": {"rate": float("nan")}}, "changes.rate: .*finite"),
        ("base", {"changes": {"wrong_steps": [50, 20]}}, "changes.wrong_steps: expected the fewest steps, at least 1"),
        ("base", {"changes": {"rates": 0.1}}, "'changes.rates': did you mean 'changes.rate'"),
        ("expert", {"changes": {"rate": 0.01}}, "changes.rate: expected 0, as an expert has one task, got 0.01"),
        ("expert", {"changes": {"wrong_starts": 0.5}, "algorithm": "sac"}, "changes: expected algorithm 'ppo'"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(stage: Any, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        load_recipe(FAMILY, stage, **{**tiny.SETTINGS, **overrides})


def test_a_zoo_from_before_the_setting_counts_as_trained_without_changes(tmp_path: Path, base: BasePolicy) -> None:
    zoo = Zoo.create(tmp_path / "zoo", FAMILY, 0)
    recipe = {name: value for name, value in base.record["recipe"].items() if name != "changes"}
    zoo.put_base(replace(base, record={**base.record, "recipe": recipe}))
    usual, changed = (load_recipe(FAMILY, "base", **tiny.SETTINGS, **more) for more in ({}, {"changes": CHANGES}))
    check_recipes(zoo, base=usual, universal=usual, expert=usual)
    with pytest.raises(MetaMapError, match=r"base policy was trained with changes None, but .*'rate': 0.05"):
        check_recipes(zoo, base=changed, universal=usual, expert=usual)


@pytest.mark.parametrize("changes", [None, Changes(rate=0.1)])
def test_episodes_of_training_may_be_longer_than_the_familys(changes: Changes | None) -> None:
    draw = TaskDraw(FAMILY)
    longer = get_family(FAMILY).horizon + 7
    envs = training_envs(draw(2, 0), changes, draw, 0, None, 1, longer)
    envs.reset()
    ends = [int(envs.step(np.zeros((2, 2), np.float32))[2].sum()) for _ in range(longer)]
    assert ends == [0] * (longer - 1) + [2]


def test_a_recipe_says_how_long_episodes_of_training_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spied(*arguments: Any) -> FamilyVecEnv:
        asked.append(arguments[-1])
        return training_envs(*arguments)

    monkeypatch.setattr("metamap_agents.experts.training.training_envs", spied)
    for horizon in (None, 70):
        train_base(FAMILY, load_recipe(FAMILY, "base", **tiny.SETTINGS, horizon=horizon), seed=0, num_threads=1)
    assert asked == [None, 70]


def test_with_all_parameters_kept_every_environment_has_the_unchanged_robot(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spied(tasks: Any, *arguments: Any) -> FamilyVecEnv:
        seen.extend(tasks)
        return training_envs(tasks, *arguments)

    monkeypatch.setattr("metamap_agents.experts.training.training_envs", spied)
    family = get_family(FAMILY)
    recipe = load_recipe(FAMILY, "base", **tiny.SETTINGS)
    train_base(FAMILY, recipe, seed=0, kept=frozenset(family.space.names), num_threads=1)
    assert {task.parameters for task in seen} == {family.task().parameters}
