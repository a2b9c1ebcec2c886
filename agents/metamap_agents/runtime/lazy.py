"""Names of a package that are imported on first use (PEP 562), so that importing the package stays fast."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_getattr"]


def lazy_getattr(
    namespace: dict[str, Any], homes: Mapping[str, str], earlier: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        namespace: the package's ``globals()``; an imported name is kept there.
        homes: module of each name.
        earlier: modules of names that were public, each of which gives a warning that says where it is now.
    """

    def find(name: str) -> Any:
        if earlier and name in earlier:
            moved = f"{namespace['__name__']}.{name} is now {earlier[name]}.{name}"
            warnings.warn(moved, DeprecationWarning, stacklevel=2)
            return getattr(import_module(earlier[name]), name)
        if name not in homes:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        namespace[name] = getattr(import_module(homes[name]), name)
        return namespace[name]

    return find
