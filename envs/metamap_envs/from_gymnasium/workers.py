"""Processes that step some of the environments of a `GymnasiumSimulator`, so that more than one core is used.

They are started by a command of their own (`metamap_envs.env_worker`), not by a fork, whose child would lack threads,
nor by `multiprocessing`, which would run the user's script again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.sharing import SharedArrays, read_step, step_message

__all__ = ["IN_WORKER", "Workers"]

IN_WORKER = "METAMAP_ENV_WORKER"
"""Environment variable that is set in a worker, which starts no workers of its own."""
_MODULE = "metamap_envs.env_worker"
_PATIENCE = 5.0  # seconds that a worker has to end after its connection was closed
DONE = "done"


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    where: NDArray[np.intp]
    """Environments that it steps."""


class Workers:
    """Worker processes of one simulator; those end with it, and with this process, however that ends.

    Args:
        family: of all environments.
        shares: environments of each worker.
        count: N, of all environments.

    Attributes:
        shared: the arrays.
        remote: whether each environment is stepped by a worker, bool [N].
        busy: whether a step is under way.
    """

    def __init__(self, family: Any, shares: Sequence[NDArray[np.intp]], count: int) -> None:
        self.shared = SharedArrays.new(count, family.action_size, family.observation_size)
        self.busy = False
        self.remote = np.zeros(count, dtype=np.bool_)
        self.remote[np.concatenate(shares)] = True
        hello = {
            "sizes": (count, family.action_size, family.observation_size),
            "path": list(sys.path),
            "family": pickle.dumps(family),
            "declared": dict(family.declared),
        }
        self._workers = [_start(share, self.shared.fd) for share in shares]
        self._waiting = list(self._workers)
        self._close = weakref.finalize(self, _end, self._workers, self.shared.fd)
        self._number = 0
        for worker in self._workers:
            _send(worker, (0, "hello", hello))

    def ready(self) -> bool:
        """Whether all workers have made the family; returns at once.

        Raises:
            MetaMapError: a worker cannot make it, or makes another one.
        """
        while self._waiting and self._waiting[0].connection.poll():
            _reply(self._waiting.pop(0), 0)
        return not self._waiting

    def each(self, name: str, parts: Sequence[Any]) -> list[Any]:
        """Send each worker a command with its part, and wait for the answers of all.

        Raises:
            MetaMapError: what the first failure says.
        """
        self._number += 1
        for worker, part in zip(self._workers, parts, strict=True):
            _send(worker, (self._number, name, part))
        return _answers(self._workers, self._number)

    def split(self, indices: Iterable[int], values: Sequence[Any]) -> list[list[tuple[int, Any]]]:
        """For each worker the (place among its environments, value) of those of ``indices`` that it steps."""
        places = dict(zip(indices, values, strict=True))
        return [
            [(place, places[index]) for place, index in enumerate(worker.where.tolist()) if index in places]
            for worker in self._workers
        ]

    def step(self, actions: NDArray[Any], moving: NDArray[np.bool_]) -> list[_Worker]:
        """Let the workers begin a step of the environments in ``moving``; `finish` must follow."""
        self.shared.actions[...] = actions
        self.shared.flags[3] = moving
        self.busy = True
        self._number += 1
        busy = [worker for worker in self._workers if moving[worker.where].any()]
        for worker in busy:
            _send_bytes(worker, step_message(self._number, actions.dtype))
        return busy

    def finish(self, busy: Sequence[_Worker]) -> None:
        """Wait for what `step` began.

        Raises:
            MetaMapError: what the first failure says.
        """
        try:
            _answers(busy, self._number)
        finally:
            self.busy = False

    @property
    def shares(self) -> list[NDArray[np.intp]]:
        """Environments of each worker."""
        return [worker.where for worker in self._workers]

    def close(self) -> None:
        """End the workers and wait for that."""
        self._close()

    def abandon(self) -> None:
        """In a process just forked: leave the workers to the parent."""
        self._close.detach()
        for worker in self._workers:
            worker.connection.close()


def _start(share: NDArray[np.intp], memory: int) -> _Worker:
    ours, theirs = socketpair()
    command = [sys.executable, "-m", _MODULE, str(theirs.fileno()), str(memory), str(os.getpid())]
    try:
        process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), memory),
            stdin=subprocess.DEVNULL,
            stdout=2 if sys.stderr is not None else subprocess.DEVNULL,  # standard output belongs to this process
            env={**os.environ, IN_WORKER: "1"},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Worker(process, Connection(ours.detach()), share)


def _send(worker: _Worker, message: Any) -> None:
    _send_bytes(worker, pickle.dumps(message))


def _send_bytes(worker: _Worker, message: bytes) -> None:
    try:
        worker.connection.send_bytes(message)
    except (OSError, ValueError):
        raise _ended(worker) from None


def _reply(worker: _Worker, number: int) -> Any:
    """The answer to a message; those to earlier ones, for which an interrupt did not wait, are dropped."""
    answered = -1
    while answered != number:
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            raise _ended(worker) from None
        if step := read_step(message):
            answered, kind, value = step[0], DONE, None
        else:
            answered, kind, value = pickle.loads(message)  # noqa: S301  # from a process of this one's own
    if kind != DONE:
        raise MetaMapError(value)
    return value


def _answers(workers: Sequence[_Worker], number: int) -> list[Any]:
    """Answers of all; the first error only after all have answered, so that none is left in a connection."""
    found, error = [], None
    for worker in workers:
        try:
            found.append(_reply(worker, number))
        except MetaMapError as failed:
            error = error or failed
    if error is not None:
        raise error
    return found


def _ended(worker: _Worker) -> MetaMapError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(_PATIENCE)
    code = worker.process.returncode
    return MetaMapError(f"a process that steps environments has ended unexpectedly (exit code {code})")


def _end(workers: Sequence[_Worker], memory: int) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        try:
            worker.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
    os.close(memory)
