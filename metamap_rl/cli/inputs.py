"""Parsing of arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError

if TYPE_CHECKING:
    from metamap_envs.family import Family

__all__ = ["adapt_example", "read_arguments", "read_family", "read_numbers", "whole_or_float"]


def read_family(text: str) -> Family:
    """The family of a command-line word: a name, or the YAML file that declares it.

    Raises:
        MetaMapError: unknown family, or an invalid file.
    """
    from metamap_envs.registry import get_family, is_family_file, load_family

    return load_family(text) if is_family_file(text) else get_family(text)


def adapt_example(mapper: str, family: str) -> str:
    """A command that adapts a mapper to a training task, for its first parameter."""
    from shlex import quote

    found = read_family(family)
    name = found.space.names[0]
    return f"metamap adapt {quote(mapper)} --parameters {name}={found.sample('train', 1, 0)[0][name]:.4g}"


def read_numbers(pairs: Sequence[str], flag: str, number: Callable[[str], float] = float) -> dict[str, float]:
    """Read ``NAME=VALUE`` words.

    Args:
        pairs: words.
        flag: their flag, for messages.
        number: parser of a value.

    Raises:
        MetaMapError: another form, not a number, or a repeated name.
    """
    read: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise MetaMapError(f"{flag}: expected NAME=VALUE, got {pair!r}")
        if name in read:
            raise MetaMapError(f"{flag} has {name!r} twice")
        try:
            read[name] = number(text)
        except ValueError:
            raise MetaMapError(f"{flag}: expected a number for {name!r}, got {text!r}") from None
    return read


def read_arguments(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` words whose values are YAML: numbers, true, false, null, text, ``[1, 2]``.

    Args:
        pairs: words.
        flag: their flag, for messages.

    Raises:
        MetaMapError: another form, invalid YAML, or a repeated name.
    """
    from metamap_envs.yaml_text import parse_yaml

    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise MetaMapError(f"{flag}: expected NAME=VALUE, got {pair!r}")
        if name in read:
            raise MetaMapError(f"{flag} has {name!r} twice")
        read[name] = parse_yaml(text, f"{flag} {name}")
    return read


def whole_or_float(text: str) -> float:
    """An integer if the text is one, else a float: `hold=3` stays an integer."""
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
