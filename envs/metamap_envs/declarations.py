"""The kinds of declared families: one key of a file says which it is, and which module reads and builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.from_gymnasium.declaration import FamilyDeclaration
from metamap_envs.yaml_text import read_yaml

__all__ = ["KINDS", "build", "read_declaration", "read_file"]

KINDS = {"environment": "metamap_envs.from_gymnasium.kind", "model": "metamap_envs.mjcf.kind"}
"""By the key that names what the family is made of: a Gymnasium id, or an MJCF file."""


class Kind(Protocol):
    """What the module of a kind has."""

    read: Callable[[Mapping[str, Any], str, Path], FamilyDeclaration[Any]]
    """Checks a document; its name in messages, and the folder to which paths in it are relative."""
    build: Callable[[Any, Path], Family]
    """Makes the family; modules of Python that it names are also looked for in the folder."""


def read_declaration(document: object, owner: str, folder: Path) -> FamilyDeclaration[Any]:
    """Check a declaration in its dictionary form.

    Args:
        document: as YAML gives it.
        owner: where it comes from, for the message.
        folder: to which a path in it is relative.

    Raises:
        MetaMapError: an unknown key (the closest one is named), a missing one, or a value that is not admitted.
    """
    if not isinstance(document, Mapping):
        raise MetaMapError(f"{owner}: expected a mapping with name, environment and parameters, got {document!r}")
    return _kind_of(document, owner).read(document, owner, folder)


def read_file(path: Path) -> FamilyDeclaration[Any]:
    """Read a family's YAML file.

    Raises:
        MetaMapError: no such file, not YAML, or as for `read_declaration`.
    """
    owner = f"family file {str(path)!r}"
    return read_declaration(read_yaml(path, owner), owner, path.absolute().parent)


def build(declaration: FamilyDeclaration[Any], folder: Path) -> Family:
    """Make the class of a declared family and its one instance.

    Args:
        declaration: of the family.
        folder: where a module that it names is looked for, besides Python's path.

    Raises:
        MetaMapError: something in the declaration does not fit the environment or the model.
    """
    key = next(key for key in KINDS if key in type(declaration).model_fields)
    return _module(key).build(declaration, folder)


def _kind_of(document: Mapping[str, Any], owner: str) -> Kind:
    given = [key for key in KINDS if key in document]
    if len(given) == 1:
        return _module(given[0])
    if given:
        raise MetaMapError(f"{owner}: give environment (a Gymnasium id) or model (an MJCF file), not both")
    own = {"name", "parameters", "description", "version", "embodiment", *KINDS}
    wrong = [key for key in document if key not in own]
    hint = str(unknown_name("key", wrong[0], own)) if wrong else "there is neither"
    raise MetaMapError(f"{owner}: expected environment (a Gymnasium id) or model (an MJCF file): {hint}")


def _module(key: str) -> Kind:
    module: Kind = import_module(KINDS[key])
    return module
