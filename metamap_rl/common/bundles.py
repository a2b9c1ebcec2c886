"""What the files of the bundled mappers tell without loading one: from where they serve, published scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["PRETRAINED", "SCORES", "BundleCard", "bundle_card"]

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of the bundled mappers."""

SCORES = PRETRAINED / "scores.json"
"""Published scores by family, made by ``scripts/bundled_scores.py`` of the documents of results."""


@dataclass(frozen=True)
class BundleCard:
    """A bundled mapper in numbers."""

    served_from: int | None
    """Transitions from which its self-check serves generated policies; None for never."""
    gap_closed: float | None
    """Interquartile mean on test-in tasks with 50 transitions; None where it is undefined."""


def bundle_card(family: str) -> BundleCard | None:
    """The card of a family's bundled mapper; None without one."""
    manifest = PRETRAINED / family / "mapper.json"
    if not manifest.is_file():
        return None
    return BundleCard(_read(manifest)["check"]["least_steps"], _read(SCORES).get(family))


@cache
def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
