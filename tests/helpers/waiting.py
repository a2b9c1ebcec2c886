"""Waiting for other processes. Nothing depends on how fast a machine is: a limit only tells that something hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANGS = 900.0
"""Seconds after which a test gives up: far beyond what any takes on a busy machine, and none waits so long to pass."""


def wait_for(condition: Callable[[], Any]) -> None:
    """Look again and again until something is true."""
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def runs(process: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
