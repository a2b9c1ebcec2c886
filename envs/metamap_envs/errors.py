"""The exception for invalid user input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = ["MetaMapError", "one_line", "prefixed", "unknown_name"]


class MetaMapError(ValueError):
    """Invalid input, described in one sentence: the thing, what was expected, the closest valid choice.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


def one_line(error: BaseException) -> str:
    """The message of another exception on one line, to be embedded in a sentence."""
    return " ".join(str(error).split())


@contextmanager
def prefixed(owner: str) -> Iterator[None]:
    """Put what a fault belongs to in front of the errors of a block."""
    try:
        yield
    except MetaMapError as error:
        raise MetaMapError(f"{owner}: {error}") from None


def unknown_name(kind: str, name: object, choices: Iterable[str], *, of: str = "") -> MetaMapError:
    """Build the error for a name that is not one of ``choices``, with the closest one first.

    Args:
        kind: what the name should have been, as a singular noun ("family", "split").
        name: what was given.
        choices: the valid names.
        of: what they belong to ("family 'reacher-goal'").

    Returns:
        The exception, for the caller to raise.
    """
    valid = sorted(choices)
    close = get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = f"valid choices are {', '.join(map(repr, valid))}" if valid else "there are no valid choices"
    owner = f" of {of}" if of else ""
    return MetaMapError(f"unknown {kind} {name!r}{owner}: {hint}{listed}")
