"""Run jobs in processes on this machine."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any, Self

from metamap_agents.runtime.executors.processes import end_with_parent, environment, interrupts_held
from metamap_agents.runtime.executors.protocol import RETRIES, Result
from metamap_agents.runtime.executors.work import Backlog, Job, call, count_workers, pack, perform, unpack
from metamap_envs.errors import MetaMapError

__all__ = ["LocalExecutor"]

_READY = b"ready"
_BEGUN = b"begun"
_NOTHING_YET = b""


class LocalExecutor:
    """Runs jobs in spawned processes, which are reused until `close`, or in this process if ``workers`` is 1.

    Ctrl-C is this process's alone: it stops what is under way. Workers end with this process, however it ends.

    A script that uses workers is imported by each of them: its work belongs under ``if __name__ == "__main__":``.

    Args:
        workers: processes; 0 takes all cores, 1 stays in this process.
        retries: how often a job is run again whose process was killed.

    Raises:
        MetaMapError: a negative number of workers.
    """

    def __init__(self, workers: int = 0, *, retries: int = RETRIES) -> None:
        self.workers = count_workers(workers)
        self.retries = retries
        self._pool: list[_Worker] = []
        # Python waits for its children at exit, and these wait for work: whoever forgot to close must not hang.
        self._finalizer = Finalize(self, _end_all, args=(self._pool,), exitpriority=10)

    def run(
        self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], *, share: tuple[Any, ...] = ()
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor.run`."""
        if self.workers == 1:
            for index, arguments in enumerate(jobs):
                yield index, call(function, *share, *arguments)
            return
        common = pack(function, share)
        backlog = Backlog(function, jobs, self.retries)
        busy: list[_Worker] = []
        try:
            while True:
                while len(busy) < self.workers and (job := backlog.draw()) is not None:
                    busy.append(self._hand_out(job, common))
                if not busy:
                    return
                for worker, answer in _answers(busy):
                    busy.remove(worker)
                    job = worker.give_back()
                    if answer is not None:
                        yield job.index, unpack(answer)
                        continue
                    self._pool.remove(worker)
                    how = worker.end()
                    if worker.died_idle:
                        backlog.put_back(job)
                    else:
                        backlog.died(job, how)
        finally:
            for worker in busy:
                if worker in self._pool:  # unless the executor was closed meanwhile
                    self._pool.remove(worker)
                    worker.end()

    def close(self) -> None:
        """End the processes."""
        _end_all(self._pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hand_out(self, job: Job, common: bytes) -> _Worker:
        """Give a job to an idle worker, or to a new one."""
        arguments = pickle.dumps(job.arguments)
        worker = self._idle()
        if worker is None:
            with interrupts_held():  # until the pool knows the worker
                worker = _Worker()
                self._pool.append(worker)
        worker.take(job, common, arguments)
        return worker

    def _idle(self) -> _Worker | None:
        """Return an idle worker whose process is alive."""
        for worker in [worker for worker in self._pool if worker.job is None]:
            if worker.alive:
                return worker
            self._pool.remove(worker)
            worker.end()
        return None


class _Worker:
    """Handle of a worker process that runs one job after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # forked threads of torch and MuJoCo would hang
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="metamap-worker")
        with environment(OMP_NUM_THREADS="1"):
            self._process.start()
        theirs.close()  # so that the connection ends with the process
        self._started = False
        self._common = b""
        self._message = b""
        self._served, self._begun = 0, False
        self.job: Job | None = None

    @property
    def signs(self) -> tuple[Connection, int]:
        """Connection that becomes readable when there is something to `receive`."""
        return self._connection, self._process.sentinel

    @property
    def alive(self) -> bool:
        """Whether the process is alive."""
        return self._process.is_alive()

    @property
    def died_idle(self) -> bool:
        """Whether a dead worker died between two jobs, not during the job assigned to it."""
        return self._served > 1 and not self._begun

    def take(self, job: Job, common: bytes, arguments: bytes) -> None:
        """Start a job as soon as the process is ready."""
        self.job, self._begun = job, False
        self._message = pickle.dumps((None if common is self._common else common, arguments))
        self._common = common
        if self._started:
            self._send()

    def give_back(self) -> Job:
        """Return the finished job."""
        job, self.job = self.job, None
        self._served += 1
        assert job is not None, "only busy workers answer"
        return job

    def receive(self) -> bytes | None:
        """Return the answer, if there is one; None if the process died.

        Raises:
            MetaMapError: the process could not start.
        """
        message: bytes | None = None
        with suppress(EOFError, OSError):  # killed, perhaps in the middle of its answer
            if self._connection.poll():
                message = self._connection.recv_bytes()
            elif self.alive:
                return _NOTHING_YET
        if message == _READY:
            self._started = True
            self._send()
            return _NOTHING_YET
        if message == _BEGUN:
            self._begun = True
            return _NOTHING_YET
        if message is None and not self._started and self._exit_code() > 0:
            raise MetaMapError(
                f"a worker process could not start, it ended with exit code {self._exit_code()}; its own complaint is "
                'above. A script that uses workers must do its work under `if __name__ == "__main__":`'
            )
        return message

    def end(self) -> str:
        """End the process; returns how it ended."""
        self._process.kill()
        code = self._exit_code()
        self._connection.close()
        self._process.close()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def _exit_code(self) -> int:
        self._process.join()
        code = self._process.exitcode
        assert code is not None, "joined"
        return code

    def _send(self) -> None:
        with suppress(OSError):  # it was killed: `receive` will notice
            self._connection.send_bytes(self._message)
        self._message = b""


def _answers(busy: Sequence[_Worker]) -> Iterator[tuple[_Worker, bytes | None]]:
    """Wait until at least one worker has an answer; None for a process that died."""
    wait([sign for worker in busy for sign in worker.signs])
    for worker in tuple(busy):
        if (answer := worker.receive()) != _NOTHING_YET:
            yield worker, answer


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _serve(connection: Connection) -> None:
    """Run one job after the other until the caller ends."""
    end_with_parent()
    common = b""
    with suppress(EOFError, OSError):
        connection.send_bytes(_READY)
        while True:
            given, arguments = connection.recv()
            connection.send_bytes(_BEGUN)
            common = common if given is None else given
            connection.send_bytes(perform(common, arguments))
