"""Results on disk: a folder that appears whole or not at all."""

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
    """Give a new folder to write into; it becomes ``out`` when the block ends, and is removed if the block fails.

    A folder that something is mounted on cannot be replaced: what is in the new one is moved there, piece by piece.

    Raises:
        MetaMapError: ``out`` holds something already, or cannot be made.
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
