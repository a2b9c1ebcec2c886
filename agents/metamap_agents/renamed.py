"""Old names of modules and keywords, which work for one release with a warning that names the new one."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

__all__ = ["rename_modules", "renamed_keywords"]

P = ParamSpec("P")
R = TypeVar("R")


def renamed_keywords(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be called with old names of keywords; a value under the new name has precedence.

    Args:
        names: new names by old names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                new, called = names[old], function.__qualname__.removesuffix(".__init__")
                message = f"{called}({old}=) is the earlier name of {new}= and will go in the next release"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                value = kwargs.pop(old)
                if kwargs.get(new) is None:
                    kwargs[new] = value
            return function(*args, **kwargs)

        return wrapper

    return decorate


def rename_modules(homes: Mapping[str, Sequence[str]]) -> None:
    """Let modules be imported by their old names.

    Args:
        homes: by the old name of a module, the modules that its names are found in now, in that order; what is in a
            package that moved is found in the same place of the first of them.
    """
    sys.meta_path.append(_OldNames(homes))


class _OldModule(ModuleType):
    """A module by its old name; callable where a public function of the package has that name now."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _OldNames(MetaPathFinder, Loader):
    """Finds nothing but the old names, and only after everything that exists."""

    def __init__(self, homes: Mapping[str, Sequence[str]]) -> None:
        self.homes = homes

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if self._homes_of(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__getattr__"] = _finder_in(module.__name__, self._homes_of(module.__name__))

    def _homes_of(self, name: str) -> Sequence[str]:
        if name in self.homes:
            return self.homes[name]
        package, _, module = name.rpartition(".")
        return [f"{home}.{module}" for home in self._homes_of(package)[:1]] if package else ()


def _finder_in(module: str, homes: Sequence[str]) -> Callable[[str], Any]:
    """A module's ``__getattr__``."""

    def find(name: str) -> Any:
        for home in homes if not name.startswith("__") else ():
            found = importlib.import_module(home)
            if hasattr(found, name):
                warnings.warn(f"{module}.{name} is now {home}.{name}", DeprecationWarning, stacklevel=2)
                return getattr(found, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
