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
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder, which becomes ``out`` when the block ends and is removed if it fails.

    A mount point cannot be replaced: the content of the new folder is moved there piece by piece.

    Raises:
        MetaMapError: ``out`` is not empty, or cannot be made.
    """
    out = Path(os.path.realpath(claim_output(out)))  # a link stays, and the folder appears where it points
    name = f".{out.name}.{secrets.token_hex(8)}.tmp"
    unfinished = out / name if out.is_mount() else out.with_name(name)
    try:
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if out.is_mount():
                for path in sorted(unfinished.iterdir()):
                    os.replace(path, out / path.name)
                unfinished.rmdir()
            else:
                os.replace(unfinished, out)  # an empty folder may be there already
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise MetaMapError(f"{out}: cannot be written ({error.strerror})") from error
