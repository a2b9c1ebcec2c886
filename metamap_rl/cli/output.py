"""Results on disk: a folder that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metamap_agents.storage import claim_output
from metamap_envs.errors import MetaMapError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a new folder to write into; it becomes ``out`` when the block ends, and is removed if the block fails.

    Raises:
        MetaMapError: ``out`` holds something already, or cannot be made.
    """
    out = Path(os.path.realpath(claim_output(out)))  # a link stays, and the folder appears where it points
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            os.replace(unfinished, out)  # an empty folder may be there already
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise MetaMapError(f"{out}: cannot be written ({error.strerror})") from error
