"""What tests of zoos share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json


def content(root: Path) -> dict[str, Any]:
    """What a zoo holds, without the timings."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix == ".safetensors":
            found[str(path.relative_to(root))] = path.read_bytes()
        elif path.suffix == ".json":
            document = read_json(path)
            document.get("record", {}).pop("seconds", None)
            found[str(path.relative_to(root))] = document
    return found
