"""Registries of choices by name. Unknown names raise an error that lists the closest valid one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Generic, TypeVar

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["Registry", "load_modules"]

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(Generic[Entry]):
    """Choices of one kind ("encoder", "loss"), by name.

    A new choice is one class or function decorated with ``@REGISTRY.register("name")``; tests over ``names()``
    cover it.

    Args:
        kind: singular noun for an entry, used in messages.
        removed: names of earlier versions that stored documents may hold, each with the closest remaining
            choice (docs/negative-results.md).
    """

    def __init__(self, kind: str, removed: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._removed = removed or {}
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return the decorator that registers a class or function under ``name``.

        Raises:
            MetaMapError: the name is taken.
        """
        if name in self._entries:
            raise MetaMapError(f"the {self.kind} {name!r} is registered already; choose another name")

        def file_under_name(entry: Registered) -> Registered:
            self._entries[name] = entry  # type: ignore[assignment]  # a decorator must return the very type it was given
            return entry

        return file_under_name

    def get(self, name: object) -> Entry:
        """Return the entry called ``name``, which may come from a stored document.

        Raises:
            MetaMapError: unknown or removed name; the message lists the choices, the closest first.
        """
        if isinstance(name, str) and name in self._removed:
            choices = ", ".join(map(repr, self.names()))
            closest = self._removed[name]
            raise MetaMapError(f"the {self.kind} {name!r} was removed: {closest!r} is closest, of {choices}")
        if not isinstance(name, str) or name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return the registered names, sorted."""
        return tuple(sorted(self._entries))


def load_modules(package: ModuleType) -> None:
    """Import every module of a package, which registers its entries."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
