"""Finds a Chromium that is installed already, for scripts and for tests of pages."""

from __future__ import annotations

import os
import shutil

__all__ = ["NO_BROWSER", "find_chromium"]

NO_BROWSER = "no browser: apt-get install chromium, or set CHROMIUM"

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of a browser: what CHROMIUM says, or the first on the PATH; None without one."""
    named = [os.environ.get("CHROMIUM"), *map(shutil.which, _NAMES)]
    return next(filter(None, named), None)
