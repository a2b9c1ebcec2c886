"""What several commands read from their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl import artifact
from metamap_rl.ensemble import MANIFEST_FILE as ENSEMBLE_FILE
from metamap_rl.mapper import Mapper
from metamap_rl.pretrained import bundled_families, pretrained_folder

__all__ = ["find_mapper", "read_numbers"]


def find_mapper(reference: str) -> tuple[Mapper, Path]:
    """Load a mapper by its folder, or by the family's name if one is bundled; returns its folder too.

    Raises:
        MetaMapError: neither a mapper's folder nor the name of a bundled mapper, or a damaged mapper.
    """
    folder = Path(reference)
    if (folder / ENSEMBLE_FILE).is_file():
        raise MetaMapError(f"{reference}: an ensemble; name one of the mappers in it, such as {folder / 'member-0'}")
    if not (folder / artifact.MANIFEST_FILE).is_file():
        if reference in bundled_families():
            folder = pretrained_folder(reference)
        elif not folder.exists():
            raise MetaMapError(f"no such folder, and {unknown_name('bundled mapper', reference, bundled_families())}")
    return Mapper.load(folder), folder


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
