"""Shared by executors: the queue of jobs, and running one of them in a worker."""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from metamap_agents.runtime.executors.protocol import LostJobError
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import declared_records, expect
from metamap_envs.simulator import default_threads

__all__ = ["Backlog", "Dumps", "Job", "call", "count_workers", "pack", "perform", "unpack"]

Dumps = Callable[[Any], bytes]
"""Pickles an object."""

_SHORT = Repr()
_SHORT.maxother = _SHORT.maxstring = 120


def count_workers(workers: int) -> int:
    """Return the number of workers, where 0 means all cores.

    Raises:
        MetaMapError: a negative number.
    """
    if workers < 0:
        raise MetaMapError(f"the number of workers must be 0 (all cores) or more, got {workers}")
    return workers or default_threads()


# ------------------------------------------------------------------------------------------------ in the caller


@dataclass
class Job:
    """One call.

    Attributes:
        index: its place among all jobs.
        arguments: of the call, after the shared ones.
        deaths: how many processes died at it.
    """

    index: int
    arguments: tuple[Any, ...]
    deaths: int = 0


class Backlog:
    """Queue of jobs: those whose worker died first, then new ones, drawn on demand.

    Args:
        function: what is called, to name a lost job.
        jobs: arguments of each call.
        retries: how often a job is run again whose worker died.
    """

    def __init__(self, function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], retries: int) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._new = enumerate(jobs)
        self._again: deque[Job] = deque()
        self._retries = retries

    def draw(self) -> Job | None:
        """Return the next job; None if there is none."""
        if self._again:
            return self._again.popleft()
        return next((Job(index, arguments) for index, arguments in self._new), None)

    def put_back(self, job: Job) -> None:
        """Requeue a job that had not started when its worker died."""
        self._again.append(job)

    def died(self, job: Job, how: str) -> None:
        """Requeue a job whose worker died.

        Raises:
            LostJobError: that was once too often.
        """
        job.deaths += 1
        if job.deaths > self._retries:
            error = LostJobError(
                f"job {job.index}, {self._name}{_SHORT.repr(job.arguments)}: the process died each of {job.deaths} "
                f"times ({how}), possibly for lack of memory: use fewer workers if memory is short"
            )
            error.index = job.index
            raise error
        self._again.append(job)


def pack(function: Callable[..., Any], share: tuple[Any, ...], dumps: Dumps = pickle.dumps) -> bytes:
    """Return the data shared by all jobs, for `perform`: also the families declared in this process."""
    return dumps((function, share, declared_records()))


def unpack(answer: bytes) -> Any:
    """Return the result in an answer of `perform`.

    Raises:
        Exception: what the function raised, with the worker's traceback as a note.
    """
    done, value, note = pickle.loads(answer)  # noqa: S301  (our own worker's)
    if done:
        return value
    value.add_note(note)
    raise value


# -------------------------------------------------------------------------------------------------- in a worker


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function of a job with one torch thread."""
    from metamap_agents.runtime.torch_state import (
        torch_threads,  # torch takes a second, which only workers are to spend
    )

    with torch_threads(1):
        return function(*arguments)


def perform(common: bytes, arguments: bytes, dumps: Dumps = pickle.dumps) -> bytes:
    """Run one job.

    Everything is unpickled anew for each job, so that none sees what another did to its arguments.

    Args:
        common: of `pack`.
        arguments: pickled, the job's own.
        dumps: pickles the result.

    Returns:
        The result or the exception, for `unpack`.
    """
    try:
        function, share, declared = pickle.loads(common)  # noqa: S301  (the caller's, who started this process)
        expect(declared)
        return dumps((True, call(function, *share, *pickle.loads(arguments)), ""))  # noqa: S301
    except Exception as error:  # noqa: BLE001  (raised again in the caller)
        return _failure(error, dumps)


def _failure(error: Exception, dumps: Dumps) -> bytes:
    """Pickle an exception, or its text if it cannot be pickled."""
    note = f"In the worker:\n{traceback.format_exc()}"
    try:
        answer = dumps((False, error, note))
        pickle.loads(answer)  # noqa: S301  (an exception with arguments of its own may fail only here)
    except Exception:  # noqa: BLE001  (foreign exceptions fail in any way they like)
        answer = dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), note))
    return answer
