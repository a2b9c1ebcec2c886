"""The groups of commands: one module of `metamap_rl.cli.commands` each, found by file name and imported when used."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from metamap_rl.cli.outline import Outline, outline

if TYPE_CHECKING:
    from metamap_rl.cli.command import Command

__all__ = ["group_names", "group_outline", "load_group", "outlines"]

_PACKAGE, _FOLDER = "metamap_rl.cli.commands", Path(__file__).with_name("commands")


def group_names() -> list[str]:
    """Names of the groups, from the file names alone."""
    return [found.name for found in pkgutil.iter_modules([str(_FOLDER)]) if not found.name.startswith("_")]


def load_group(name: str) -> dict[str, type[Command]]:
    """Import one module of commands; returns its classes by second word, "" if the group is itself the command."""
    classes: tuple[type[Command], ...] = importlib.import_module(f"{_PACKAGE}.{name}").COMMANDS
    by_name = {kind.name: kind for kind in classes}
    return {"": by_name[name]} if list(by_name) == [name] else by_name


def group_outline(name: str) -> Outline:
    """Help of one group, without importing it."""
    return outline(_FOLDER / f"{name}.py")


def outlines() -> list[Outline]:
    """Help of all groups, in the order of the help."""
    return sorted(map(group_outline, group_names()), key=lambda group: (group.order, group.name))
