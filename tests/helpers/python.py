"""Code that is run by a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.waiting import HANGS

_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code with these arguments and the modules of the tests; an exit code other than 0 is an error."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=_ENVIRONMENT, timeout=HANGS)
