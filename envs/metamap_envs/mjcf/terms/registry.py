"""From items of a declaration's lists to terms."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import metamap_envs.mjcf.terms as package
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.mjcf.terms.base import QUANTITIES, REWARDS, Quantity, RewardTerm, Term
from metamap_envs.settings import Number, parse

__all__ = ["Bounds", "read_end", "read_quantity", "read_reward"]

Bounds = tuple[float | None, float | None]
_T = TypeVar("_T", bound=Term)
_PYTHON = "python"


def read_quantity(item: object, place: str) -> tuple[str, Quantity]:
    """A term of the observation, and its name.

    Args:
        item: a name, or a mapping of one name to the term's keys, as the file has it.
        place: of the item in the file, for messages.

    Raises:
        MetaMapError: unknown term or key (the closest one is named), or a value that is not admitted.
    """
    _load()
    return _read(item, QUANTITIES, place)


def read_reward(item: object, place: str) -> tuple[str, RewardTerm]:
    """A term of the reward, and its name; see `read_quantity`."""
    _load()
    name, term = _read(item, REWARDS, place)
    if term.weight == 0.0:
        raise MetaMapError(f"{place}.{name}: expected a weight other than 0")
    return name, term


def read_end(item: object, place: str) -> tuple[str, Quantity, Bounds]:
    """A term of the ends, its name, and the bounds (low, high) of its numbers; see `read_quantity`."""
    _load()
    bounds: dict[str, float] = {}
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, keys),) = item.items()
        if isinstance(keys, Mapping):
            bounds = {key: parse(Number, keys[key], f"{place}.{name}.{key}") for key in ("low", "high") if key in keys}
            item = {name: {key: value for key, value in keys.items() if key not in ("low", "high")}}
    name, term = _read(item, QUANTITIES, place)
    low, high = bounds.get("low"), bounds.get("high")
    if low is None and high is None and not term.flags:
        raise MetaMapError(f"{place}.{name}: expected low, high or both, the bounds outside which an episode ends")
    if low is not None and high is not None and low >= high:
        raise MetaMapError(f"{place}.{name}: expected low below high, got {low:g} and {high:g}")
    return name, term, (low, high)


@cache
def _load() -> None:
    """Import the modules of the package, each of which registers its terms."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _read(item: object, known: Mapping[str, type[_T]], place: str) -> tuple[str, _T]:
    name, keys = _parts(item, place)
    if name not in known:
        raise MetaMapError(f"{place}: {unknown_name('term', name, known)}")
    cls = known[name]
    if not isinstance(keys, Mapping):
        if not cls.short:
            raise MetaMapError(f"{place}.{name}: expected a mapping of its keys, got {keys!r}")
        keys = {cls.short: keys}
    return name, parse(cls, keys, f"{place}.{name}")


def _parts(item: object, place: str) -> tuple[str, Any]:
    """Name of a term and its keys."""
    if isinstance(item, str):
        return (_PYTHON, item) if ":" in item else (item, {})
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, keys),) = item.items()
        if ":" in str(name):
            keys = {"function": name, **keys} if isinstance(keys, Mapping) else keys
            return _PYTHON, keys
        return str(name), {} if keys is None else keys
    raise MetaMapError(f"{place}: expected the name of a term, or one name with its keys, got {item!r}")
