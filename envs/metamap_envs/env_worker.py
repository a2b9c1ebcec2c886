"""Worker process of a vector environment of Gymnasium's environments: ``python -m metamap_envs.env_worker``.

Started by `metamap_envs.from_gymnasium.workers`; it ends when its connection is closed or its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["main"]

_LOOK = 1.0  # seconds between looks whether the parent is still there
_DONE = ("done", None)


class _Host:
    """The environments of this process, and the commands that the parent sends."""

    def __init__(self, hello: Mapping[str, Any], memory: int) -> None:
        from metamap_envs.errors import MetaMapError
        from metamap_envs.from_gymnasium.sharing import SharedArrays

        sys.path[:] = hello["path"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parent has given them
            self.family = pickle.loads(hello["family"])  # noqa: S301  # from the parent process
        if dict(self.family.declared) != hello["declared"]:
            raise MetaMapError(f"family {self.family.name!r} is another one in a process of its own")
        self.shared = SharedArrays.of(memory, *hello["sizes"])
        self.where = slice(0)
        self.simulator: Any = None

    def load(self, part: tuple[NDArray[np.intp], dict[str, Any]]) -> None:
        """Take over environments: their numbers, and the state of a simulator of them."""
        from metamap_envs.from_gymnasium.simulator import GymnasiumSimulator

        where, state = part
        self.where = slice(int(where[0]), int(where[-1]) + 1)  # shares are in one piece
        self.simulator = GymnasiumSimulator.__new__(GymnasiumSimulator)
        self.simulator.__setstate__({**state, "family": self.family})

    def take(self, _: object) -> dict[str, Any]:
        """The state of the simulator, for the parent to go on from."""
        found: dict[str, Any] = self.simulator.__getstate__()
        return {key: found[key] for key in ("taken", "steps")}

    def step(self, dtype: str) -> None:
        """Step the environments that are to move, with actions of a type."""
        actions = self.shared.actions[self.where].astype(dtype)
        self.simulator.step(actions, np.flatnonzero(self.shared.flags[3, self.where]))
        self._show()

    def begin(self, part: Sequence[tuple[int, int | None]]) -> None:
        """Reset environments with seeds."""
        for index, seed in part:
            self.simulator.begin(index, seed)
        self._show()

    def tasks(self, part: Sequence[tuple[int, Any]]) -> None:
        """Make environments of other tasks."""
        now = [*self.simulator.tasks]
        for index, task in part:
            now[index] = task
        self.simulator.set_tasks(now)

    def change(self, part: Sequence[tuple[int, Any]]) -> None:
        """Change tasks in mid-episode, after the parent has checked that."""
        self.simulator.write_tasks([index for index, _ in part], [task for _, task in part])

    def _show(self) -> None:
        found, shared, where = self.simulator.outcome(), self.shared, self.where
        shared.observations[where], shared.rewards[where] = found["observations"], found["rewards"]
        for row, name in enumerate(("terminated", "truncated", "diverged")):
            shared.flags[row, where] = found[name]


def main(arguments: Sequence[str]) -> None:
    """Serve a parent until it closes the connection.

    Args:
        arguments: file descriptors of connection and memory, and the parent's process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    fd, memory, parent = map(int, arguments)
    connection: Connection[Any, Any] = Connection(fd)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    host: list[_Host] = []
    message = _receive(connection)
    while message is not None:
        answer = _answered(message, host, memory)
        try:
            connection.send_bytes(answer)
        except OSError:
            break
        message = _receive(connection) if host else None
    if host and host[0].simulator is not None:
        host[0].simulator.close()


def _end_with(parent: int) -> None:
    """End this process with its parent, also where a fork of that keeps the connection open."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)


def _receive(connection: Connection[Any, Any]) -> bytes | None:
    """The next message; None when the parent has closed the connection or is gone."""
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return None


def _answered(message: bytes, host: list[_Host], memory: int) -> bytes:
    """Do what a message says; the first one makes the host."""
    from metamap_envs.from_gymnasium.sharing import read_step

    if step := read_step(message):
        number, dtype = step
        found = _answer(host[0].step, dtype)
        return message if found == _DONE else pickle.dumps((number, *found))
    number, name, part = pickle.loads(message)  # noqa: S301  # from the parent process
    command = getattr(host[0], name) if host else lambda given: host.append(_Host(given, memory))
    return pickle.dumps((number, *_answer(command, part)))


def _answer(command: Callable[[Any], Any], given: Any) -> tuple[str, Any]:
    from metamap_envs.errors import MetaMapError, one_line

    try:
        return "done", command(given)
    except MetaMapError as error:
        return "failed", str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's code may raise anything
        return "failed", f"a process that steps environments: {type(error).__name__}: {one_line(error)}"


if __name__ == "__main__":
    main(sys.argv[1:])
