"""What every executor promises. `test_executors.py` and `test_ray.py` run these tests, each with its own executor.

The jobs are functions at the top of a module that workers can import.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.waiting import HANGS, runs, wait_for
from metamap_agents.runtime.executors import Executor, LostJobError
from metamap_envs import MetaMapError

# --------------------------------------------------------------------------------------------------------- jobs


def shifted(offset: np.ndarray, factor: int, number: int) -> np.ndarray:
    """Mutates its first argument, as no pure function would notice."""
    offset += factor * number
    return offset


def refuse(number: int) -> int:
    if number == 2:
        raise MetaMapError(f"number {number} is refused")
    return number


class AwkwardError(Exception):
    """Cannot be unpickled: pickle calls it with one argument."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def be_awkward() -> None:
    raise AwkwardError(1, 2)


def threads() -> tuple[int, str | None]:
    return torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def attempts(folder: str, number: int) -> list[int]:
    """Processes that began a job."""
    return [int(path.suffix[1:]) for path in Path(folder).glob(f"{number}.*")]


def noted(folder: str, number: int, victim: int) -> int:
    """Notes who runs it; the victim waits to be killed the first time."""
    first = not attempts(folder, number)
    Path(folder, f"{number}.{os.getpid()}").touch()
    if first and number == victim:
        time.sleep(HANGS)
    return number**2


def die_once(function: Callable[..., Any], folder: str, *arguments: Any) -> Any:
    """Call a function; whoever is the first to have its result dies before handing it over, and leaves its number."""
    result = function(*arguments)
    try:
        with Path(folder, "died").open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return result
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


class LosesOneResult:
    """An executor on which the first process to finish a job dies before its result is handed over.

    Args:
        executor: does the work.
        folder: an empty folder; the process's number is in its file `died` afterwards.
    """

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.executor, self.folder = executor, folder

    def run(
        self, function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], *, share: tuple[Any, ...] = ()
    ) -> Iterator[tuple[int, Any]]:
        return self.executor.run(die_once, jobs, share=(function, str(self.folder), *share))


def die(folder: str, number: int) -> int:
    """Notes that it runs; number 1 kills its own process."""
    Path(folder, f"{number}.{time.time_ns()}").touch()
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


# -------------------------------------------------------------------------------------------------------- tests


class Contract:
    """Whoever subclasses it provides two fixtures.

    executor: with two processes and one retry.
    ahead: how many jobs may be drawn before any has finished.
    """

    def test_every_job_is_done_once_on_arguments_of_its_own(self, executor: Executor) -> None:
        offset = np.array([0.5, 1.0])
        found = dict(executor.run(shifted, ((number,) for number in range(7)), share=(offset, 10)))
        assert sorted(found) == list(range(7))
        for number, result in found.items():
            np.testing.assert_array_equal(result, offset + 10 * number)
            result += 1  # not read-only either
        assert offset.tolist() == [0.5, 1.0]
        assert list(executor.run(shifted, [], share=(offset, 10))) == []

    def test_jobs_have_one_thread(self, executor: Executor) -> None:
        assert list(executor.run(threads, [()])) == [(0, (1, "1"))]

    def test_what_the_function_raises_comes_through(self, executor: Executor) -> None:
        found = []
        with pytest.raises(MetaMapError, match="number 2 is refused") as caught:
            found.extend(executor.run(refuse, ((number,) for number in range(100))))
        assert type(caught.value) is MetaMapError
        assert str(caught.value) == "number 2 is refused"
        assert "executor_contract.py" in caught.value.__notes__[0], "the worker's traceback"
        with pytest.raises(RuntimeError, match="AwkwardError: 1 and 2"):
            list(executor.run(be_awkward, [()]))
        assert list(executor.run(refuse, [(1,)])) == [(0, 1)], "the executor works on"

    def test_jobs_are_drawn_as_slots_get_free(self, executor: Executor, ahead: int) -> None:
        drawn: list[int] = []

        def jobs() -> Iterator[tuple[int]]:
            for number in range(3, 12):
                drawn.append(number)
                yield (number,)

        for received, _ in enumerate(executor.run(refuse, jobs())):
            assert len(drawn) <= received + ahead
        assert len(drawn) == 9

    def test_a_job_whose_process_is_killed_runs_again(self, executor: Executor, tmp_path: Path) -> None:
        folder = str(tmp_path)
        killed: list[int] = []

        def kill() -> None:
            wait_for(lambda: attempts(folder, 1))
            killed.extend(attempts(folder, 1))
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        found = dict(executor.run(noted, ((folder, number, 1) for number in range(6))))
        killer.join()
        assert found == {number: number**2 for number in range(6)}
        wait_for(lambda: not runs(killed[0]))  # its socket closes before the process has ended
        assert len(attempts(folder, 1)) == 2
        assert all(len(attempts(folder, number)) == 1 for number in (0, 2, 3, 4, 5)), "only what was lost"

    def test_a_job_that_no_process_survives_is_named(self, executor: Executor, tmp_path: Path) -> None:
        with pytest.raises(LostJobError, match=r"^job 1, die\(.*, 1\): the process died each of 2 times") as caught:
            list(executor.run(die, ((str(tmp_path), number) for number in range(50))))
        assert caught.value.index == 1
        assert len(list(tmp_path.glob("1.*"))) == 2
        assert list(executor.run(refuse, [(1,)])) == [(0, 1)], "the executor works on"

    def test_whoever_stops_asking_stops_what_is_under_way(self, executor: Executor, tmp_path: Path) -> None:
        assert len(list(executor.run(refuse, [(0,), (1,)]))) == 2  # both processes are up
        folder = str(tmp_path)
        results = executor.run(noted, ((folder, number, 1) for number in range(20)))
        next(results)
        wait_for(lambda: attempts(folder, 1))
        (waiting,) = attempts(folder, 1)
        assert runs(waiting)
        results.close()  # type: ignore[attr-defined]  # a generator's
        wait_for(lambda: not runs(waiting))
        assert list(executor.run(refuse, [(1,)])) == [(0, 1)]
