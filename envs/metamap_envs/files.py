"""Files of users, before they are opened."""

from __future__ import annotations

import stat
from pathlib import Path

from metamap_envs.errors import MetaMapError

__all__ = ["refuse_pipes"]


def refuse_pipes(path: str | Path, what: str = "") -> None:
    """Refuse what is no file but a pipe, a socket or a device: to open or read it may take for ever.

    Args:
        path: of a file; one that is not there is left to whoever opens it.
        what: put in front of the error; the path, if left out.

    Raises:
        MetaMapError: it is of such a kind.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MetaMapError(f"{what or path}: cannot be read (expected a regular file, it is a pipe or a device)")
