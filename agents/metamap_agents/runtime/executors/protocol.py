"""The interface of executors, and the error of a job whose process died each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from metamap_envs.errors import MetaMapError

__all__ = ["RETRIES", "Executor", "LostJobError", "Result"]

RETRIES = 2
"""How often a job is repeated after its process died."""

Result = TypeVar("Result")


class LostJobError(MetaMapError):
    """A job whose process died each time it ran.

    Attributes:
        index: of the job.
    """

    index: int = -1


class Executor(Protocol):
    """Runs one function on many arguments in parallel.

    Each job has one core and one torch thread wherever it runs, since bits depend on the number of threads.
    """

    def run(
        self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], *, share: tuple[Any, ...] = ()
    ) -> Iterator[tuple[int, Result]]:
        """Call ``function(*share, *job)`` for each job.

        Jobs are drawn lazily, one for each slot that is free, in the caller's thread and between results: whoever
        draws them may take note of what is under way. Closing the iterator before its end stops what is under way.

        Args:
            function: importable by its name, pure and deterministic: it may run more than once.
            jobs: the arguments of each call. They, ``share`` and the results are pickled.
            share: leading arguments that all calls have in common, sent once.

        Yields:
            (index of the job, its result) as jobs finish, in whatever order that is.

        Raises:
            LostJobError: a job's process died once more than the executor's retries.
            Exception: whatever ``function`` raises, at once and as its own type. Jobs under way are stopped.
        """
        ...
