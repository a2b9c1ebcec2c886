"""Ray: a real one, started on this machine. Its jobs give what local ones give, whichever process is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import tiny
from helpers.executor_contract import Contract, LosesOneResult, refuse
from helpers.waiting import runs, wait_for
from helpers.zoos import content
from metamap_agents.experts.building import build_experts
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import RayExecutor
from metamap_envs import MetaMapError
from metamap_rl.cli import app

ray = pytest.importorskip("ray", reason="the optional extra `ray` is not installed")


def descendants(parent: int) -> dict[int, str]:
    """All processes below one, with the names that they go by."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:  # it ended meanwhile
            continue
    found: dict[int, str] = {}
    below = {parent}
    while below:
        below = {process for process, its in parents.items() if its in below}
        found.update({process: names[process] for process in below if process in names})
    return found


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    before, terminate = set(descendants(os.getpid())), signal.getsignal(signal.SIGTERM)
    with RayExecutor(workers=2, retries=1) as executor:
        started = set(descendants(os.getpid())) - before
        assert started
        yield executor
        started |= set(descendants(os.getpid())) - before
    wait_for(lambda: not any(map(runs, started)))
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is terminate


@pytest.fixture
def ahead() -> int:
    return 3  # one waits for a CPU


@pytest.mark.slow
class TestRay(Contract):
    """Two CPUs, shared by all tests."""


def test_experts_are_the_same_and_none_is_lost_with_a_worker(
    executor: RayExecutor, tiny_zoo: Zoo, tmp_path: Path
) -> None:
    tasks = tiny_zoo.tasks("train", 4)
    zoos = []
    for name in ("local", "ray"):
        shutil.copytree(tiny_zoo.root, tmp_path / name, ignore=shutil.ignore_patterns("experts"))
        zoos.append(Zoo.open(tmp_path / name))
    build_experts(zoos[0], tasks, overrides=tiny.SETTINGS, workers=1)
    seen: list[tuple[int, int]] = []
    build_experts(
        zoos[1],
        tasks,
        overrides=tiny.SETTINGS,
        executor=LosesOneResult(executor, tmp_path),
        on_expert=lambda done, total, expert: seen.append((done, total)),
    )
    killed = int((tmp_path / "died").read_text())
    wait_for(lambda: not runs(killed))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert content(zoos[1].root) == content(zoos[0].root)


@pytest.mark.slow
def test_the_command_line_trains_on_ray(executor: RayExecutor, tmp_path: Path) -> None:
    steps = ["--base-timesteps", "4000", "--timesteps", "4000"]
    counts = ["--train", "2", "--validation", "0", "--test-in", "0"]
    for place in ("ray", "local"):
        words = ["experts", "train", tiny.FAMILY, "--out", str(tmp_path / place), *counts, *steps]
        assert app.main([*words, "--executor", place, "--workers", "1"]) == 0
    assert len(Zoo.open(tmp_path / "ray").experts()) == 2
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_one_connection_is_shared(executor: RayExecutor) -> None:
    with RayExecutor() as second:
        assert list(second.run(refuse, [(1,)])) == [(0, 1)]
    assert list(executor.run(refuse, [(1,)])) == [(0, 1)], "it was not the second's to close"
    with pytest.raises(MetaMapError, match=r"is connected to the Ray cluster at '.*' already, not to 'elsewhere:1'"):
        RayExecutor("elsewhere:1")
