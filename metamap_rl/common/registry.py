"""A registry: names to whatever can be chosen by name, filled by a decorator, where a wrong name teaches."""

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

    A new choice is one class or function under ``@REGISTRY.register("name")``; nothing else is edited,
    and the tests that run over ``names()`` cover it.

    Args:
        kind: what an entry is, as a singular noun.
        removed: names that earlier versions had and stored documents may hold, each with the closest choice that is
            left (docs/negative-results.md).
    """

    def __init__(self, kind: str, removed: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._removed = removed or {}
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return the decorator that files a class or function under ``name``.

        Raises:
            MetaMapError: the name is taken, since a silent replacement would change what saved artifacts mean.
        """
        if name in self._entries:
            raise MetaMapError(f"the {self.kind} {name!r} is registered already; choose another name")

        def file_under_name(entry: Registered) -> Registered:
            self._entries[name] = entry  # type: ignore[assignment]  # a decorator must return the very type it was given
            return entry

        return file_under_name

    def get(self, name: object) -> Entry:
        """Return the entry called ``name``, which a document may have spoilt.

        Raises:
            MetaMapError: no such name, or not any more; the message lists the choices, the closest first.
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
    """Import every module of a package, each of which files its entries."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
