"""Atomic writing of result folders."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metamap_agents.runtime.storage import claim_output
from metamap_envs.errors import MetaMapError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder, which becomes ``out`` when the block ends and is removed if it fails.

    A mount point cannot be replaced: the content of the new folder is moved there piece by piece.

    Args:
        out: the folder.
        overwrite: a folder with files in it may be there. It is replaced as a whole; what the new one lacks is kept.

    Raises:
        MetaMapError: ``out`` is not empty and ``overwrite`` is not set, or it cannot be made.
    """
    out = Path(os.path.realpath(claim_output(out, overwrite)))  # a link stays, and the folder appears where it points
    name = f".{out.name}.{secrets.token_hex(8)}.tmp"
    unfinished = out / name if out.is_mount() else out.with_name(name)
    try:
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if out.is_mount():
                _move_content(unfinished, out)
            elif out.is_dir() and any(out.iterdir()):
                _exchange(unfinished, out)
            else:
                os.replace(unfinished, out)  # an empty folder may be there already
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise MetaMapError(f"{out}: cannot be written ({error.strerror})") from error


def _move_content(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        os.replace(path, target / path.name)
    source.rmdir()


def _exchange(new: Path, out: Path) -> None:
    """Put a folder in the place of another one, and what it lacks into it."""
    old = out.with_name(f"{new.name}.old")
    os.replace(out, old)
    try:
        os.replace(new, out)
    except BaseException:
        os.replace(old, out)
        raise
    for path in sorted(old.iterdir()):
        if not os.path.lexists(out / path.name):
            os.replace(path, out / path.name)
    shutil.rmtree(old)
