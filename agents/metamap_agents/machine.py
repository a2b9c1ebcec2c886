"""What the numbers of a benchmark depend on besides the code."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from metamap_envs.simulator import default_threads

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and how busy they were, as plain JSON values."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": default_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }
