"""The Protocol of readers, their registry, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.files import refuse_pipes
from metamap_rl.common.registry import Registry

__all__ = [
    "LARGEST_BYTES",
    "READERS",
    "Reader",
    "Recording",
    "check_size",
    "find_reader",
    "is_pickle",
    "read_recording",
]

LARGEST_BYTES = 2**29
"""Most bytes that a recording may have in memory: over a million transitions of 50 numbers."""

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, eq=False)
class Recording:
    """Columns of a recording, as they are in its file.

    Attributes:
        columns: arrays by name, [n] or [n, k], with one row for each step; text is kept as it is. Readers of formats
            with fixed roles use the names of a `metamap_envs.Rollout`, and ``episode``.
        source: the file, for messages.
        seconds: time between two rows, where the format tells it; None otherwise.
        about: what else the file says of itself, such as its family, by name.
        notes: what looks unusual about the file, a sentence each.
    """

    columns: Mapping[str, NDArray[Any]]
    source: str
    seconds: float | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """Protocol of readers: one format."""

    suffixes: ClassVar[tuple[str, ...]]
    """Ends of file names, in lower case; empty for folders alone."""

    def recognises(self, folder: Path) -> bool:
        """Whether a folder is a data set of this format; never for formats that are a file."""
        return False

    def __call__(self, path: Path) -> Recording:
        """Read a file or a folder. No code from it is executed.

        Raises:
            MetaMapError: a damaged or truncated file, one of another format, one that is too large, or a missing
                library.
        """
        ...


READERS: Registry[type[Reader]] = Registry("format of recordings")


def read_recording(path: str | Path) -> Recording:
    """Read a recording with the reader that its name, or the content of its folder, belongs to.

    Raises:
        MetaMapError: no such file, no reader for it, or as the reader.
    """
    path = Path(path)
    refuse_pipes(path)
    if not path.exists():
        raise MetaMapError(f"{path}: no such file")
    return find_reader(path)(path)


def find_reader(path: Path) -> Reader:
    """The reader of an existing file or folder.

    Raises:
        MetaMapError: there is none, or the file is a pickle by its first bytes.
    """
    readers = [READERS.get(name)() for name in READERS.names()]
    if path.is_dir():
        found = [reader for reader in readers if reader.recognises(path)]
        if not found:
            raise MetaMapError(f"{path}: expected a data set of Minari or LeRobot, the folder has neither's files")
        return found[0]
    suffix = path.suffix.lower()
    found = [reader for reader in readers if suffix in reader.suffixes]
    pickles = READERS.get("pickle")()
    if suffix not in pickles.suffixes and is_pickle(path):
        return pickles
    if not found:
        known = sorted({one for reader in readers if reader is not pickles for one in reader.suffixes})
        raise MetaMapError(f"{path}: expected a recording, a name that ends in one of {', '.join(known)}")
    return found[0]


def is_pickle(path: Path) -> bool:
    """Whether the first bytes are those of a pickle."""
    try:
        with path.open("rb") as file:
            return file.read(2) in _PICKLES
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error


def check_size(source: object, bytes_needed: int) -> None:
    """Refuse content that needs too much memory, before it is read.

    Raises:
        MetaMapError: more than `LARGEST_BYTES`.
    """
    if bytes_needed > LARGEST_BYTES:
        raise MetaMapError(
            f"{source}: needs {bytes_needed / 2**20:,.0f} MiB of memory, expected at most {LARGEST_BYTES >> 20}; "
            "cut it to the transitions of one task"
        )


def size_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an array, also of one that does not fit into memory."""
    return prod(shape) * max(1, dtype.itemsize)
