"""The registry of families: those of this package and those declared in YAML, by name."""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family, instance_of
from metamap_envs.from_gymnasium.ids import head_of, register_files, register_id
from metamap_envs.task import Task

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.declaration import FamilyDeclaration

# What reads and builds declarations needs pydantic and YAML, and is imported when a family is declared.

__all__ = [
    "VARIABLE",
    "declared_families",
    "declared_records",
    "expect",
    "find_declared",
    "from_gymnasium",
    "get_family",
    "is_family_file",
    "list_families",
    "load_family",
    "register_declared",
    "register_family",
]

VARIABLE = "METAMAP_FAMILIES"
"""Environment variable: YAML files of families, separated as in PATH. Processes started later find them by it."""

_SUFFIXES = (".yml", ".yaml")


@dataclass(frozen=True)
class _Declared:
    declaration: FamilyDeclaration[Any]
    family: Family


_CLASSES: dict[str, type[Family]] = {}
_DECLARED: dict[str, _Declared] = {}
_EXPECTED: dict[str, dict[str, Any]] = {}
"""In a worker: what the process that started it has declared, by name; see `expect`."""


def get_family(name: str) -> Family:
    """The one instance of a family.

    Args:
        name: of a family of this package, or of one that is declared in YAML and was loaded, or is listed in
            METAMAP_FAMILIES. A path is refused: names come out of stored documents too, and a family's file may name
            a module to import.

    Raises:
        MetaMapError: no family of that name; the message names the closest one. Or its models are not installed.
    """
    _load_modules()
    if name in list(_CLASSES):  # a list: documents may hold a name that cannot be hashed
        if lacking := _lacking(name):
            module, extra = lacking
            raise MetaMapError(
                f"family {name!r} needs {module}, which is not installed: pip install 'metamap-rl[{extra}]'"
            )
        return instance_of(_CLASSES[name])
    if is_family_file(name):
        raise MetaMapError(
            f"family {name!r}: expected a name, not a file; load_family(path), or {VARIABLE}=path, makes its name known"
        )
    declared = find_declared(name)
    if declared is None:
        error = unknown_name("family", name, {*_CLASSES, *declared_families()})
        raise MetaMapError(f"{error}; {VARIABLE}=PATH makes one known that a YAML file declares")
    return declared


Task.find_family = get_family


# families of this package --------------------------------------------------------------------------------------------


def register_family(cls: type[Family]) -> type[Family]:
    """Class decorator: add a family to the registry under its name.

    Raises:
        MetaMapError: another class already has that name.
    """
    if cls.name in _CLASSES:
        raise MetaMapError(f"family {cls.name!r} is registered twice")
    _CLASSES[cls.name] = cls
    return cls


def list_families() -> tuple[str, ...]:
    """Names of all families whose models are installed, sorted."""
    _load_modules()
    return tuple(sorted(name for name in _CLASSES if not _lacking(name)))


@cache
def _load_modules() -> None:
    """Import every module of `metamap_envs.families`, each of which registers its family."""
    package = importlib.import_module("metamap_envs.families")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


@cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _lacking(name: str) -> tuple[str, str] | None:
    """The module that a family requires and that is not installed, with its extra; None if nothing is lacking."""
    requires = _CLASSES[name].requires
    return None if requires is None or _installed(requires[0]) else requires


# declared families ---------------------------------------------------------------------------------------------------


def from_gymnasium(document: Mapping[str, Any]) -> Family:
    """Make a family from a declaration in its dictionary form, and register its name.

    Processes started later, as those that train experts, do not know it: for them write a file and use `load_family`.

    Args:
        document: name, environment or model, parameters and so on, as in a family's file. The path of a model is
            relative to the working directory.

    Returns:
        The family, which `get_family` finds by its name from now on.

    Raises:
        MetaMapError: the declaration is wrong, or another family has that name.
    """
    from metamap_envs.declarations import read_declaration

    return _declare(read_declaration(document, "family declaration", Path.cwd()))


def load_family(path: str | os.PathLike[str]) -> Family:
    """Make a family of a Gymnasium environment or of an MJCF model from its YAML file, and register its name.

    The file's path is put first in the environment variable METAMAP_FAMILIES, by which processes started later find it.
    A family file names a module to import where its environment is written "module:id", or a term "module:function":
    read it before you trust it.

    Args:
        path: of the YAML file.

    Returns:
        The family, which `get_family` finds by its name from now on.

    Raises:
        MetaMapError: no such file, the declaration is wrong, another family has that name, also one in a file that
            METAMAP_FAMILIES lists, or the path cannot stand there.
    """
    from metamap_envs.declarations import read_file

    found = Path(path).absolute()
    if os.pathsep in str(found):
        raise MetaMapError(f"family file {str(path)!r}: a path with {os.pathsep!r} in it cannot stand in {VARIABLE}")
    declaration = read_file(found)
    known = declaration.name in _DECLARED
    family = _declare(declaration, found.parent)
    listed = _listed()
    if not known or str(found) not in listed:
        others = [path for path in listed if path != str(found)]
        both = [*others, str(found)] if known else [str(found), *others]  # a worker takes the first of two alike
        os.environ[VARIABLE] = os.pathsep.join(both)
    return family


def declared_families() -> tuple[str, ...]:
    """Names of the example families and of those that are declared already, sorted."""
    return tuple(sorted({*_examples(), *_DECLARED}))


def register_declared() -> None:
    """Register the Gymnasium ids of the example families and of those that METAMAP_FAMILIES lists."""
    register_files(_examples().values(), _listed())


def is_family_file(name: object) -> bool:
    """Whether a name is the path of a YAML file that declares a family."""
    return isinstance(name, str) and name.endswith(_SUFFIXES)


def find_declared(name: object) -> Family | None:
    """A declared family by its name; None if there is none.

    Raises:
        MetaMapError: a file that is listed in METAMAP_FAMILIES is missing or wrong.
    """
    if not isinstance(name, str):
        return None
    if name not in _DECLARED:
        for path in _listed():
            load_family(path)
            if name in _DECLARED:
                break
    if name not in _DECLARED and name in _examples():
        from metamap_envs.declarations import read_file

        _declare(read_file(_examples()[name]))
    if name not in _DECLARED:
        return None
    family = _DECLARED[name].family
    if name in _EXPECTED and _EXPECTED[name] != _record(family):
        raise MetaMapError(
            f"family {name!r} is declared differently in this worker and in the process that started it: its file was "
            f"changed meanwhile, or {VARIABLE} names another one here"
        )
    return family


def declared_records() -> dict[str, dict[str, Any]]:
    """Records of the families declared in this process, by name, for `expect` in its workers."""
    return {name: _record(entry.family) for name, entry in _DECLARED.items()}


def expect(records: Mapping[str, dict[str, Any]]) -> None:
    """Refuse from now on declared families that differ from the `declared_records` of another process."""
    _EXPECTED.clear()
    _EXPECTED.update(records)


def _record(family: Family) -> dict[str, Any]:
    return {"version": family.version, "horizon": family.horizon, "declared": dict(family.declared or {})}


def _listed() -> list[str]:
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def _examples() -> dict[str, Path]:
    """Files of the example families by name."""
    folder = Path(str(resources.files("metamap_envs.from_gymnasium"))) / "examples"
    return {path.stem: path for path in sorted(folder.glob("*.yml"))}


def _declare(declaration: FamilyDeclaration[Any], folder: Path | None = None) -> Family:
    """The family of a declaration, made on first use; a module of its environment is also looked for in ``folder``.

    Without a folder, it is that of the listed file that declares the same, or else the working directory.
    """
    from metamap_envs.declarations import build

    name = declaration.name
    if name in _DECLARED:
        if _DECLARED[name].declaration != declaration:
            raise MetaMapError(
                f"family {name!r} is declared already, with other contents; give the new one another name"
            )
        return _DECLARED[name].family
    if name in list_families():
        raise MetaMapError(f"family {name!r} is part of the package; give the declared one another name")
    listed = _listed_file(declaration)
    family: Family = build(declaration, folder or (listed.absolute().parent if listed else Path.cwd()))
    for other in (entry.family for entry in _DECLARED.values()):
        sizes = [(each.observation_size, each.action_size) for each in (family, other)]
        if other.embodiment == family.embodiment and sizes[0] != sizes[1]:
            raise MetaMapError(
                f"family {name!r} has {sizes[0]} observations and actions, {other.name!r} of the same embodiment "
                f"{other.embodiment!r} has {sizes[1]}; declare another embodiment"
            )
    register_id(family.name, family.gym_id, family.horizon, family.entry_point)
    # A process that does not know it can unpickle an environment of it: its class is nowhere to be imported from.
    copyreg.pickle(type(family), lambda _: (from_gymnasium, (declaration.model_dump(),)))
    _DECLARED[name] = _Declared(declaration, family)
    return family


def _listed_file(declaration: FamilyDeclaration[Any]) -> Path | None:
    """The listed file that declares a family, None if there is none.

    Raises:
        MetaMapError: a listed file declares it otherwise: processes started later would take that file's.
    """
    from metamap_envs.declarations import read_file

    found = [path for path in map(Path, _listed()) if head_of(path).get("name") == declaration.name]
    for path in found:
        if read_file(path) != declaration:
            raise MetaMapError(
                f"family {declaration.name!r} is declared differently in {str(path)!r}, which {VARIABLE} lists; give "
                f"one of them another name, or take that file out of {VARIABLE}"
            )
    return found[0] if found else None
