"""Start of worker processes, which are not interrupted by Ctrl-C and do not outlive their caller."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

__all__ = ["end_with_parent", "environment", "interrupts_held"]


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Block Ctrl-C while workers are started; they inherit the block and leave interrupts to this process.

    Ignoring it in the worker itself would be too late: it reaches the whole group of processes, and they take seconds
    to import their modules.
    """
    resource_tracker.ensure_running()  # the first process that is spawned would start it, and let interrupts in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # an interrupt that came meanwhile is raised here


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables for processes started within a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Start a thread that ends this worker when its parent process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
