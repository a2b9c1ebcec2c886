"""The zoo: nothing is lost or half-written, whoever works on it and however it is stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from helpers.waiting import HANGS, runs, wait_for
from helpers.zoos import content
from metamap_agents.experts import zoo as zoo_module
from metamap_agents.experts.building import build_base, build_experts
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.storage import read_json, save_arrays, write_json
from metamap_envs import MetaMapError, get_family

BUILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import metamap_agents.experts.building as building
from helpers import tiny

train, train_base = building.train_expert, building.train_base

def noted(task, *arguments, **keywords):
    with open({log!r}, "a") as file:
        file.write(task.id + "\\n")
    if len(Path({log!r}).read_text().split()) > {experts}:
        time.sleep({hangs})  # to be killed
    return train(task, *arguments, **keywords)

def held(*arguments, **keywords):
    if not {experts}:
        time.sleep({hangs})
    return train_base(*arguments, **keywords)

building.train_expert, building.train_base = noted, held
if __name__ == "__main__":
    tiny.make_zoo(Path({root!r}), workers={workers})
"""


def start_build(folder: Path, root: Path, workers: int, experts: int = 100) -> subprocess.Popen[bytes]:
    """Build the tiny zoo in a process of its own, which notes each expert that it trains in `<folder>/log`.

    After so many ``experts`` it comes to a halt, and with 0 in the base policy: the build cannot be through before it
    is killed, however long that takes.
    """
    script = folder / "build.py"
    values = {"log": str(folder / "log"), "root": str(root), "workers": workers, "experts": experts, "hangs": HANGS}
    script.write_text(BUILD.format(tests=str(Path(__file__).parents[1]), **values))
    return subprocess.Popen([sys.executable, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"})


def children(parent: int) -> list[int]:
    """Processes whose parent is `parent`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


# ------------------------------------------------------------------------------------------------------ killed


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_a_build_that_is_killed_goes_on_and_gives_the_same_zoo(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    build = start_build(tmp_path, root, workers=2, experts=3)
    wait_for(lambda: list(root.glob("experts/*.json")))
    workers = children(build.pid)
    build.kill()
    build.wait()
    wait_for(lambda: not any(map(runs, workers)))  # no worker is left behind, at work or waiting
    halfway = Zoo.open(root)
    done = len(halfway.experts())
    assert 0 < done < len(tiny_zoo.experts())
    assert tiny.make_zoo(root).missing(tiny.COUNTS.tasks(halfway)) == []
    assert content(root) == content(tiny_zoo.root)


@pytest.mark.slow
def test_a_build_that_is_killed_in_the_base_policy_starts_it_again(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    build = start_build(tmp_path, root, workers=1, experts=0)
    wait_for(lambda: (root / "locks" / "base.lock").exists())
    build.kill()
    build.wait()
    assert not Zoo.open(root).experts()
    zoo = Zoo.create(root, tiny.FAMILY, tiny.SEED)
    build_base(zoo, overrides=tiny.SETTINGS)
    found, expected = content(root), content(tiny_zoo.root)
    assert found == {name: expected[name] for name in ("base.json", "base.safetensors", "zoo.json")}


def test_what_a_kill_left_of_the_manifest_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".zoo.json.0123456789abcdef.tmp").write_text("{")
    assert Zoo.create(tmp_path, tiny.FAMILY, 0).family.name == tiny.FAMILY


# ------------------------------------------------------------------------------------------- several processes


@pytest.mark.slow
def test_two_processes_do_not_train_an_expert_twice(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root, ignore=shutil.ignore_patterns("experts", "locks"))
    both = [start_build(tmp_path, root, workers=1) for _ in range(2)]
    assert [build.wait(timeout=HANGS) for build in both] == [0, 0]
    trained = (tmp_path / "log").read_text().split()
    assert len(trained) == len(set(trained)) == len(tiny_zoo.experts())
    assert content(root) == content(tiny_zoo.root)


def test_a_zoo_that_cannot_be_written_to_is_reported(tiny_zoo: Zoo, tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", tiny_zoo.family.name, 0)
    (zoo.root / "locks").write_text("a file where a folder is needed, as good as a read-only folder")
    (zoo.root / "experts").write_text("")
    with pytest.raises(MetaMapError, match=r"locks/base\.lock: cannot be written"), zoo.claim("base"):
        pass
    with pytest.raises(MetaMapError, match="experts: cannot be made"):
        zoo.put(tiny_zoo.experts("train")[0])


def test_a_claim_is_held_once(tiny_zoo: Zoo, tmp_path: Path) -> None:
    first, second = Zoo.create(tmp_path, tiny.FAMILY, 0), Zoo.open(tmp_path)
    with first.claim("a") as ours, second.claim("a") as theirs, second.claim("b") as other:
        assert (ours, theirs, other) == (True, False, True)
        with first.claim("base") as base:
            assert base
            with pytest.raises(MetaMapError, match="another process is training the base policy"):
                build_base(second, overrides=tiny.SETTINGS)
    with second.claim("a") as again:
        assert again


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    """Two processes, for tests that do not kill any."""
    with LocalExecutor(2) as executor:
        yield executor


def test_workers_give_the_same_experts_as_one_process(tiny_zoo: Zoo, executor: LocalExecutor, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root, ignore=shutil.ignore_patterns("experts"))
    seen: list[tuple[int, int, str]] = []
    tasks = tiny_zoo.tasks("train", 2)
    build_experts(
        Zoo.open(root),
        tasks,
        overrides=tiny.SETTINGS,
        executor=executor,
        on_expert=lambda done, total, expert: seen.append((done, total, expert.task.id)),
    )
    assert [entry[:2] for entry in seen] == [(1, 2), (2, 2)]
    assert {entry[2] for entry in seen} == {task.id for task in tasks}
    for task in tasks:
        assert np.array_equal(Zoo.open(root).get(task).phi, tiny_zoo.get(task).phi)


def test_an_error_in_a_worker_ends_the_build_with_its_sentence(
    tiny_zoo: Zoo, executor: LocalExecutor, tmp_path: Path
) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root, ignore=shutil.ignore_patterns("experts"))
    wild = {**tiny.SETTINGS, "learning_rate": 1e30}
    with pytest.raises(MetaMapError, match="diverged"):
        build_experts(Zoo.open(root), tiny_zoo.tasks("train", 3), overrides=wild, executor=executor)
    with pytest.raises(MetaMapError, match="did you mean 'n_envs'"):
        build_experts(Zoo.open(root), tiny_zoo.tasks("train", 3), overrides={"n_env": 2}, workers=2)
    with pytest.raises(MetaMapError, match="workers must be 0"):
        build_experts(Zoo.open(root), [], workers=-1)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "Ctrl-C works again"


@pytest.mark.slow
def test_an_expert_whose_worker_is_killed_is_trained_again(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root, ignore=shutil.ignore_patterns("experts"))
    others = set(multiprocessing.active_children())
    tasks = tiny_zoo.tasks("train", 3)

    def kill(done: int, total: int, expert: Expert) -> None:
        if done == 1:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()

    build_experts(Zoo.open(root), tasks, overrides=tiny.SETTINGS, workers=2, on_expert=kill)
    assert all(np.array_equal(Zoo.open(root).get(task).phi, tiny_zoo.get(task).phi) for task in tasks)
    assert set(multiprocessing.active_children()) == others

    shutil.rmtree(root / "experts")
    slow = {**tiny.SETTINGS, "n_timesteps": 4000}  # so that work is left when the first expert is there
    with (
        LocalExecutor(2, retries=0) as executor,
        pytest.raises(MetaMapError, match=rf"{tiny.FAMILY}-\w+ \(goal_radius=.* was killed"),
    ):
        # More of them than the two that may happen to end at once, with nothing under way that could be killed.
        build_experts(Zoo.open(root), tiny_zoo.tasks("train", 6), overrides=slow, executor=executor, on_expert=kill)
    assert Zoo.open(root).experts()
    for task in Zoo.open(root).missing(tiny_zoo.tasks("train", 6)):
        with Zoo.open(root).claim(task.id) as ours:
            assert ours, "no claim is left behind"


# ----------------------------------------------------------------------------------------------------- content


def test_experts_come_back(tiny_zoo: Zoo) -> None:
    for expert in tiny_zoo.experts():
        again = tiny_zoo.get(expert.task)
        assert np.array_equal(again.phi, expert.phi)
        assert again.task == expert.task
        assert again.returns.shape == (10,)
        assert again.record["seed"] == tiny_zoo.expert_seed(expert.task)


def test_more_tasks_keep_the_earlier_ones(tiny_zoo: Zoo) -> None:
    assert tiny_zoo.tasks("train", 7)[:3] == tiny_zoo.tasks("train", 3)


def test_seeds_are_fixed_for_ever() -> None:
    """Zoos on disk are gone on with: a change here would mix two kinds of experts."""
    zoo = Zoo(Path("nowhere"), {"family": tiny.FAMILY, "seed": 0})
    assert zoo.expert_seed(get_family(tiny.FAMILY).task()) == 1612740146


def test_half_an_expert_is_no_expert(tiny_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo.create(tmp_path, tiny.FAMILY, tiny.SEED)
    zoo.put_base(tiny_zoo.base)
    expert = tiny_zoo.experts()[0]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zoo_module, "write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            zoo.put(expert)
    assert not zoo.has(expert.task)
    assert zoo.missing([expert.task]) == [expert.task]
    assert zoo.experts() == []
    zoo.put(expert)
    assert len(zoo.experts(expert.task.split)) == 1


def test_there_is_no_expert_before_the_base_policy(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path, tiny.FAMILY, 0)
    assert not zoo.has_base
    with pytest.raises(MetaMapError, match="has no base policy yet"):
        build_experts(zoo, zoo.tasks("train", 1))
    with pytest.raises(MetaMapError, match="has no expert for reacher-goal"):
        zoo.get(zoo.tasks("train", 1)[0])


# ------------------------------------------------------------------------------------------- foreign, damaged


@pytest.mark.parametrize(
    ("family", "seed", "message"),
    [
        ("cheetah-velocity", 5, "expected a zoo of 'cheetah-velocity' with seed 5, it is one of 'reacher-goal'"),
        ("reacher-goal", 6, "with seed 6, it is one of 'reacher-goal' with seed 5"),
        ("reacher-gaol", 5, "did you mean 'reacher-goal'"),
        ("reacher-goal", -1, "the seed of a zoo: expected an integer in"),
    ],
)
def test_another_zoo_is_not_mixed_in(tiny_zoo: Zoo, family: str, seed: int, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        Zoo.create(tiny_zoo.root, family, seed)


def test_a_declared_family_is_known_by_its_name(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", "pendulum-torque", 3)
    assert Zoo.create(tmp_path / "zoo", "pendulum-torque", 3).manifest == zoo.manifest


def test_folders_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(MetaMapError, match="exists and is not a zoo"):
            Zoo.create(path, tiny.FAMILY, 0)
        with pytest.raises(MetaMapError, match=r"is not a zoo: it has no zoo\.json"):
            Zoo.open(path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: {**document, "format_version": 2}, "expected zoo format version 1, it has 2"),
        (
            lambda document: {**document, "family_version": 7},
            "made in 'reacher-goal' version 7, installed is version",
        ),
        (lambda document: {**document, "family": "walker"}, "unknown family 'walker'"),
        (lambda document: {**document, "seed": "x"}, "zoo.json: seed: expected int, got 'x'"),
        (lambda document: {key: document[key] for key in document if key != "family"}, "family: expected str"),
        (lambda document: [document], "not the manifest of a zoo"),
        (lambda document: {}, "not the manifest of a zoo"),
    ],
)
def test_other_versions_and_damaged_manifests(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    Zoo.create(tmp_path, tiny.FAMILY, 0)
    write_json(tmp_path / "zoo.json", change(read_json(tmp_path / "zoo.json")))
    with pytest.raises(MetaMapError, match=message):
        Zoo.open(tmp_path)


def test_damaged_experts_are_named(tiny_zoo: Zoo, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo.root, root)
    zoo = Zoo.open(root)
    expert: Expert = zoo.experts()[0]
    weights = root / "experts" / f"{expert.task.id}.safetensors"
    document = weights.with_suffix(".json")

    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MetaMapError, match=rf"{weights.name}: .*truncated"):
        zoo.experts()
    save_arrays(weights, {"phi": np.zeros(3, np.float32)})
    with pytest.raises(MetaMapError, match=r"phi: expected \(4866,\), file has \(3,\)"):
        zoo.get(expert.task)
    save_arrays(weights, {"phi": expert.phi * np.nan})
    with pytest.raises(MetaMapError, match="phi holds values that are not finite"):
        zoo.get(expert.task)
    weights.write_bytes(whole)

    good = document.read_text()
    for text, message in (
        ("{}", "expected an expert"),
        (good[:50], "truncated"),
        (json.dumps({**json.loads(good), "returns": "many"}), "expected returns, one number for each episode"),
        (json.dumps({**json.loads(good), "base_returns": []}), "expected returns, one number for each episode"),
        (json.dumps({**json.loads(good), "base_returns": [1.0]}), "expected as many base_returns as returns"),
        (json.dumps({**json.loads(good), "record": 3}), "record: expected an object, got 3"),
        (json.dumps({**json.loads(good), "record": {"seconds": None}}), "record: seconds: expected a number"),
        (json.dumps({**json.loads(good), "task": zoo.experts()[1].task.to_json()}), "expected the expert of"),
        (
            json.dumps({**json.loads(good), "task": get_family("cheetah-velocity").task().to_json()}),
            "expected a task of family 'reacher-goal'",
        ),
    ):
        document.write_text(text)
        with pytest.raises(MetaMapError, match=message):
            zoo.get(expert.task)
        document.write_text(good)
    zoo.get(expert.task)
