"""Checks of users' files before they are opened."""

from __future__ import annotations

import stat
from pathlib import Path

from metamap_envs.errors import MetaMapError

__all__ = ["refuse_pipes"]


def refuse_pipes(path: str | Path, what: str = "") -> None:
    """Refuse pipes, sockets and devices: opening or reading one may block forever.

    Args:
        path: of a file; a missing one is left to the caller.
        what: prefix of the error. Default: the path.

    Raises:
        MetaMapError: not a regular file or folder.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MetaMapError(f"{what or path}: cannot be read (expected a regular file, it is a pipe or a device)")
