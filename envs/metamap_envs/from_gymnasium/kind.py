"""The kind of declared families that name a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamap_envs.from_gymnasium.building import build
from metamap_envs.from_gymnasium.declaration import Declaration
from metamap_envs.settings import parse

__all__ = ["build", "read"]


def read(document: Mapping[str, Any], owner: str, folder: Path) -> Declaration:
    """Check a declaration; its environment is an id, so that no path in it depends on the folder.

    Raises:
        MetaMapError: an unknown key, a missing one, or a value that is not admitted.
    """
    return parse(Declaration, document, owner)
