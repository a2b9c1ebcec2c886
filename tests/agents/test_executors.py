"""Executors on this machine, and how one is chosen. What they promise is in `executor_contract.py`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.executor_contract import Contract, noted, refuse, shifted
from helpers.waiting import HANGS
from metamap_agents.runtime.executors import LocalExecutor, LostJobError, RayExecutor, make_executor
from metamap_agents.runtime.executors.protocol import RETRIES
from metamap_envs import MetaMapError


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    before = set(multiprocessing.active_children())
    with LocalExecutor(2, retries=1) as executor:
        yield executor
    assert set(multiprocessing.active_children()) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "Ctrl-C works"


@pytest.fixture
def ahead() -> int:
    return 2


class TestLocal(Contract):
    """Two processes, shared by all tests."""

    def test_processes_stay_for_the_next_run(self, executor: LocalExecutor, tmp_path: Path) -> None:
        before = os.environ.get("OMP_NUM_THREADS")
        processes = []
        for folder in (tmp_path / "a", tmp_path / "b"):
            folder.mkdir()
            list(executor.run(noted, [(str(folder), number, -1) for number in range(8)]))
            processes.append({path.suffix for path in folder.iterdir()})
        assert len(processes[0] | processes[1]) == 2
        assert os.environ.get("OMP_NUM_THREADS") == before

    def test_a_process_killed_between_runs_is_nobodys_loss(self, executor: LocalExecutor, tmp_path: Path) -> None:
        assert len(list(executor.run(refuse, [(0,), (1,)]))) == 2
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        assert dict(executor.run(noted, [(str(tmp_path), number, -1) for number in range(2)])) == {0: 0, 1: 1}
        assert len(list(tmp_path.iterdir())) == 2, "no job met a dead process"

    def test_runs_within_runs(self, executor: LocalExecutor) -> None:
        found = [
            (outer, inner)
            for outer, _ in executor.run(refuse, [(3,), (4,), (5,)])
            for inner, _ in executor.run(refuse, [(6,), (7,)])
        ]
        assert sorted(found) == [(outer, inner) for outer in range(3) for inner in range(2)]


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with LocalExecutor(1) as executor:
            results = executor.run(noted, ((str(tmp_path), number, -1) for number in range(3)))
            assert next(results) == (0, 0)
            assert [path.name for path in tmp_path.iterdir()] == [f"0.{os.getpid()}"], "nothing in advance"
            assert torch.get_num_threads() == 2
            assert list(results) == [(1, 1), (2, 4)]
            with pytest.raises(MetaMapError, match="number 2 is refused"):
                list(executor.run(refuse, [(2,)]))
            (found,) = executor.run(shifted, [(1,)], share=(np.zeros(1), 2))
            assert found[1].tolist() == [2.0]
    finally:
        torch.set_num_threads(threads)


SCRIPT = """
from metamap_agents.runtime.executors import LocalExecutor
def work():
    executor = LocalExecutor(2)
    results = executor.run(abs, [(-1,), (-2,)])
    print(next(results)[1], flush=True)
    return executor, results
{start}
"""


@pytest.mark.parametrize(("start", "code"), [('if __name__ == "__main__": kept = work()', 0), ("kept = work()", 1)])
def test_scripts_without_a_guard_are_reported_and_forgotten_executors_do_not_hang(
    start: str, code: int, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(start=start))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=HANGS, check=False)
    assert done.returncode == code, done.stderr
    if code:
        assert 'must do its work under `if __name__ == "__main__":`' in done.stderr
    else:
        assert done.stdout in ("1\n", "2\n")
        assert done.stderr == ""


# ------------------------------------------------------------------------------------------------------- choosing


def test_executors_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = make_executor("local", 3)
    assert isinstance(chosen, LocalExecutor)
    assert (chosen.workers, chosen.retries) == (3, RETRIES)
    assert LocalExecutor().workers == len(os.sched_getaffinity(0))
    with pytest.raises(MetaMapError, match="unknown executor 'rya': did you mean 'ray'"):
        make_executor("rya")
    with pytest.raises(MetaMapError, match="the Ray address 'auto' is for the executor 'ray', not for 'local'"):
        make_executor("local", ray_address="auto")
    for name in ("local", "ray"):
        with pytest.raises(MetaMapError, match="workers must be 0"):
            make_executor(name, -1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MetaMapError, match=r"Ray is not installed: pip install 'metamap-rl\[ray\]'"):
        make_executor("ray")


def test_addresses_where_no_cluster_is() -> None:
    pytest.importorskip("ray", reason="the optional extra `ray` is not installed")
    for address in ("nonsense", "host:", ":1", "host:port"):
        with pytest.raises(MetaMapError, match="must be host:port, ray://host:port or auto"):
            RayExecutor(address)
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(MetaMapError, match=rf"no Ray cluster answers at '127.0.0.1:{port}'"):
            RayExecutor(f"127.0.0.1:{port}")


def test_a_lost_job_keeps_its_index_when_it_is_pickled() -> None:
    error = LostJobError("lost")
    error.index = 4
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.index) == ("lost", 4)
