"""The kind of declared families that name an MJCF model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamap_envs.mjcf.building import build
from metamap_envs.mjcf.declaration import ModelDeclaration
from metamap_envs.settings import parse

__all__ = ["build", "read"]


def read(document: Mapping[str, Any], owner: str, folder: Path) -> ModelDeclaration:
    """Check a declaration; the path of its model becomes absolute.

    Raises:
        MetaMapError: an unknown key, a missing one, or a value that is not admitted.
    """
    declaration = parse(ModelDeclaration, document, owner)
    return declaration.model_copy(update={"model": str((folder / declaration.model).absolute())})
