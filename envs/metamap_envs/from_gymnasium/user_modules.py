"""Users' environments by module and Gymnasium id, with one-sentence errors."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.from_gymnasium.constructor import argument_names
from metamap_envs.from_gymnasium.making import creator_of
from metamap_envs.user_env import failure, make_user_env

__all__ = ["import_user_module", "make_by_id"]

_OF_MAKE = ("disable_env_checker", "max_episode_steps", "render_mode")
"""Arguments of `gymnasium.make` itself."""
_ADDED: list[Path] = []
"""Folders that modules were found in and that were no part of Python's path."""


def import_user_module(module: str, label: str, folder: Path) -> None:
    """Import a module that registers environments.

    Args:
        module: its name, with dots where it is inside a package.
        label: what messages call the environment.
        folder: where it is looked for if it is nowhere in Python's path; the folder stays in the path from then on, for
            what the module imports later.

    Raises:
        MetaMapError: not a module name, no such module, it raises, or another folder's module has that name.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise MetaMapError(f"{label}: {module!r} is not the name of a module")
    top, folder = module.split(".")[0], folder.resolve()
    if any((folder / name).is_file() for name in (f"{top}.py", f"{top}/__init__.py")):
        origin = Path(getattr(sys.modules.get(top), "__file__", None) or ".").resolve()
        if other := next((each for each in _ADDED if each != folder and each in origin.parents), None):
            raise MetaMapError(
                f"{label}: the module {top!r} of {other} is in use already; give that of {folder} another name"
            )
        if top not in sys.modules and not _is_module(top):
            sys.path.append(str(folder))
            _ADDED.append(folder)
            importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except (MetaMapError, Warning):
        raise
    except ModuleNotFoundError as error:
        if error.name != module and error.name != top:
            raise MetaMapError(f"{label}: {failure(error)}") from error
        raise MetaMapError(
            f"{label}: No module named {error.name!r} in {folder} or in Python's path (set PYTHONPATH to its folder)"
        ) from error
    except (Exception, SystemExit) as error:
        raise MetaMapError(f"{label}: its module {module!r} cannot be imported: {failure(error)}") from error


def _is_module(name: str) -> bool:
    """Whether Python's path has such a module; a mere folder of that name (a namespace package) is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def make_by_id(env_id: str, arguments: Mapping[str, Any], label: str) -> gym.Env[Any, Any]:
    """Make an environment by its Gymnasium id; "module:Id" imports the module, also from the working directory.

    Args:
        env_id: the id.
        arguments: of its constructor, and ``max_episode_steps`` and ``render_mode`` of `gymnasium.make`.
        label: what messages call it.

    Raises:
        MetaMapError: there is no such module, id or argument, or it cannot be made.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        import_user_module(module, label, Path.cwd())
    if arguments and name in gym.registry:
        _check_arguments(gym.spec(name), arguments, label)
    return make_user_env(lambda: gym.make(env_id, **arguments), label)


def _check_arguments(spec: gym.envs.registration.EnvSpec, arguments: Mapping[str, Any], label: str) -> None:
    """Refuse arguments that the constructor does not have, where its signature shows that."""
    try:
        known, others = argument_names(creator_of(spec))
    except Exception:  # noqa: BLE001  # making it will say why
        return
    for name in arguments:
        if not others and name not in known and name not in _OF_MAKE:
            raise MetaMapError(f"{label}: {unknown_name('argument of its constructor', name, {*known, *_OF_MAKE})}")
