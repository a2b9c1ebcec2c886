"""Arrays of N environments in memory that a vector environment and its worker processes share."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.state import Array

__all__ = ["SharedArrays", "read_step", "step_message"]

_STEP = struct.Struct("<cq2s")


def step_message(number: int, dtype: np.dtype[Any]) -> bytes:
    """The message for a step, the only one that is not pickled: it is sent often.

    Args:
        number: of the message.
        dtype: of the actions that the caller gave, a type of NumPy's own.
    """
    return _STEP.pack(b"s", number, dtype.str[1:].encode())


def read_step(message: bytes) -> tuple[int, str] | None:
    """Number and type of the actions; None for any other message."""
    if len(message) != _STEP.size or message[:1] != b"s":
        return None
    _, number, kind = _STEP.unpack(message)
    return number, kind.decode()


@dataclass(frozen=True)
class SharedArrays:
    """Actions in, outcomes out; the memory is gone with the last process that holds it, however that ends.

    Attributes:
        fd: file descriptor of the memory.
        actions: [N, A], in float64, which holds float32 exactly.
        observations: [N, O].
        rewards: [N].
        flags: terminated, truncated and diverged, and which environments are to move, bool [4, N].
    """

    fd: int
    actions: Array
    observations: Array
    rewards: Array
    flags: NDArray[np.bool_]

    @classmethod
    def new(cls, count: int, action_size: int, observation_size: int) -> SharedArrays:
        """New memory."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("metamap-envs")
        else:
            fd, path = tempfile.mkstemp()
            os.unlink(path)
        os.ftruncate(fd, 8 * count * (action_size + observation_size + 1) + 4 * count)
        return cls.of(fd, count, action_size, observation_size)

    @classmethod
    def of(cls, fd: int, count: int, action_size: int, observation_size: int) -> SharedArrays:
        """Memory that another process has made."""
        memory: Any = mmap.mmap(fd, 0)
        numbers = np.frombuffer(memory, np.float64, count * (action_size + observation_size + 1))
        ends = np.cumsum([count * action_size, count * observation_size, count])
        actions, observations, rewards, _ = np.split(numbers, ends)
        flags = np.frombuffer(memory, np.bool_, 4 * count, offset=8 * int(ends[-1]))
        return cls(
            fd,
            actions.reshape(count, action_size),
            observations.reshape(count, observation_size),
            rewards,
            flags.reshape(4, count),
        )
