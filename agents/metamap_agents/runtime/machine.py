"""Description of the machine that results were computed on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from metamap_envs.simulator import default_threads

__all__ = ["describe_machine"]


def describe_machine(torch_threads: int | None = None) -> dict[str, Any]:
    """Return processor, cores available to this process, load and torch's threads, as plain JSON values.

    Args:
        torch_threads: threads of torch in the described work; None for those of this process.
    """
    if torch_threads is None:
        import torch  # loaded already where it was used

        torch_threads = torch.get_num_threads()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": default_threads(),
        "torch_threads": torch_threads,
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }
