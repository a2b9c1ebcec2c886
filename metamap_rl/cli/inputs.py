"""What several commands read from their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError

if TYPE_CHECKING:
    from metamap_envs.family import Family

__all__ = ["read_arguments", "read_family", "read_numbers", "whole_or_float"]


def read_family(text: str) -> Family:
    """The family that a word of the command line means: its name, or the YAML file that declares it.

    Raises:
        MetaMapError: there is none, or the file is wrong.
    """
    from metamap_envs.registry import get_family, is_family_file, load_family

    return load_family(text) if is_family_file(text) else get_family(text)


def read_numbers(pairs: Sequence[str], flag: str, number: Callable[[str], float] = float) -> dict[str, float]:
    """Read ``NAME=VALUE`` words.

    Args:
        pairs: the words.
        flag: the flag they follow, for the messages.
        number: reads a value.

    Raises:
        MetaMapError: another form, no number, or a name given twice.
    """
    read: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise MetaMapError(f"{flag} expects NAME=VALUE, got {pair!r}")
        if name in read:
            raise MetaMapError(f"{flag} has {name!r} twice")
        try:
            read[name] = number(text)
        except ValueError:
            raise MetaMapError(f"{flag} expects a number for {name!r}, got {text!r}") from None
    return read


def read_arguments(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` words whose values are YAML: numbers, true, false, null, text, ``[1, 2]``.

    Args:
        pairs: the words.
        flag: the flag they follow, for the messages.

    Raises:
        MetaMapError: another form, no YAML, or a name given twice.
    """
    from metamap_envs.yaml_text import parse_yaml

    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise MetaMapError(f"{flag} expects NAME=VALUE, got {pair!r}")
        if name in read:
            raise MetaMapError(f"{flag} has {name!r} twice")
        read[name] = parse_yaml(text, f"{flag} {name}")
    return read


def whole_or_float(text: str) -> float:
    """A whole number where the text is one: `hold=3` must not become 3.0."""
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
