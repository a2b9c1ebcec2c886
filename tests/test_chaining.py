"""Experts that start from one another: along a tree of near tasks, whatever the workers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import tiny
from metamap_agents.building import build_experts
from metamap_agents.chaining import Link, chain
from metamap_agents.recipes import load_recipe
from metamap_agents.training import train_expert
from metamap_agents.zoo import Zoo
from metamap_envs import Task, get_family
from metamap_rl.stream.experts import ExpertCache

FAMILY = get_family("cheetah-velocity")
SETTINGS = {**tiny.SETTINGS, "start": "nearest", "n_timesteps": 200}


def at(*velocities: float, split: str = "train") -> list[Task]:
    return [FAMILY.task({"target_velocity": velocity}, split=split) for velocity in velocities]


def starts(links: Sequence[Link]) -> dict[float, float | None]:
    return {
        link.task["target_velocity"]: None if link.start is None else link.start["target_velocity"] for link in links
    }


def test_neighbours_on_a_line() -> None:
    default = FAMILY.task()["target_velocity"]
    line = [default + offset for offset in (0.8, 0.1, 0.45, 0.2)]
    links = chain(at(*line), [], seed=0)
    far, first, middle, second = line
    assert starts(links) == {first: None, second: first, middle: second, far: middle}
    assert [link.depth for link in links] == [0, 1, 2, 3]
    finished = chain(at(*line), at(middle), seed=0)
    assert starts(finished) == {second: middle, first: second, far: middle}
    assert {link.task["target_velocity"]: link.depth for link in finished} == {second: 0, first: 1, far: 0}


def test_no_training_task_starts_from_another_split() -> None:
    default = FAMILY.task()["target_velocity"]
    train, measured = at(default + 0.1, default + 0.5), at(default + 0.3, default + 0.32, split="test-in")
    links = chain([*measured, *train], measured[:1], seed=0)
    assert [link.task for link in links] == [*train, measured[1]]
    assert links[1].start == train[0]
    assert links[2].start == measured[0]


@pytest.mark.parametrize("family", ["reacher-goal", "cheetah-actuators", "cheetah-crippled"])
def test_where_a_build_was_stopped_does_not_matter(family: str) -> None:
    tasks = get_family(family).sample("train", 20, 3)
    tasks += get_family(family).sample("validation", 5, 3)
    whole = {link.task: link.start for link in chain(tasks, [], seed=3)}
    assert sum(start is None for start in whole.values()) == 1
    order = list(whole)
    for count in (1, 5, 13, 22):
        rest = chain(tasks[::-1], order[:count], seed=3)
        assert {link.task: link.start for link in rest} == {task: whole[task] for task in order[count:]}


def test_a_chained_zoo_is_the_same_for_any_workers_and_after_a_stop(tiny_zoo: Zoo, tmp_path: Path) -> None:
    tasks = tiny_zoo.tasks("train", 4)
    zoos = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        shutil.copytree(tiny_zoo.root, root, ignore=shutil.ignore_patterns("experts"))
        zoos.append(Zoo.open(root))
        build_experts(zoos[-1], tasks, overrides=SETTINGS, workers=workers)
    links = {link.task: link.start for link in chain(tasks, [], zoos[0].seed)}
    for task in tasks:
        expert, start = zoos[0].get(task), links[task]
        assert np.array_equal(expert.phi, zoos[1].get(task).phi)
        assert expert.record["started_from"] == (None if start is None else start.id)
        given = None if start is None else zoos[0].get(start).phi
        recipe, seed = load_recipe(tiny.FAMILY, "expert", **SETTINGS), zoos[0].expert_seed(task)
        assert np.array_equal(expert.phi, train_expert(task, zoos[0].base, recipe, seed=seed, start=given).phi)

    leaf = next(task for task in tasks if task not in links.values())
    for path in (zoos[1].root / "experts").glob(f"{leaf.id}.*"):
        path.unlink()
    build_experts(zoos[1], tasks, overrides=SETTINGS, workers=1)
    assert np.array_equal(zoos[1].get(leaf).phi, zoos[0].get(leaf).phi)


def test_what_starts_from_another_process_s_expert_waits(tiny_zoo: Zoo, tmp_path: Path) -> None:
    shutil.copytree(tiny_zoo.root, tmp_path / "zoo", ignore=shutil.ignore_patterns("experts"))
    zoo, tasks = Zoo.open(tmp_path / "zoo"), tiny_zoo.tasks("train", 3)
    (root,) = [link.task for link in chain(tasks, [], zoo.seed) if link.start is None]
    with zoo.claim(root.id) as ours:
        assert ours
        build_experts(Zoo.open(zoo.root), tasks, overrides=SETTINGS, workers=1)
    assert zoo.missing(tasks) == tasks
    build_experts(zoo, tasks, overrides=SETTINGS, workers=1)
    assert not zoo.missing(tasks)


def test_streams_do_not_chain(tmp_path: Path) -> None:
    cache = ExpertCache(tmp_path, {"reacher": tiny.FAMILY}, overrides=SETTINGS)
    with pytest.raises(ValueError, match="experts of a stream cannot start from the 'nearest'"):
        cache.recipe(tiny.FAMILY)
