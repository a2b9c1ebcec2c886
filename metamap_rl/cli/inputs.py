"""What several commands read from their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metamap_envs.errors import MetaMapError

__all__ = ["read_numbers"]


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
