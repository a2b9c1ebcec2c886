"""Standard output holds the result only; all other output goes to standard error.

User environments print at import, construction, steps and exit, from Python, C and child processes. Therefore file
descriptor 1 is redirected to standard error while a command runs; only `write` uses the original one.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["OutputError", "PipeClosedError", "bold", "result_stream", "set_apart", "width", "write"]

_USUAL_WIDTH = 80

_result: TextIO | None = None  # where results go while standard output is set apart


class OutputError(Exception):
    """The result cannot be printed; exit code 2."""


class PipeClosedError(Exception):
    """The reader of the pipe has closed it, as in `metamap ... | head`; not an error."""


def result_stream() -> TextIO:
    """The stream of results.

    Raises:
        OutputError: standard output is closed.
    """
    stream = _result if _result is not None else sys.stdout
    if stream is None:
        raise OutputError("standard output is closed; point it at a file, or at /dev/null")
    return stream


def width() -> int:
    """Width of the terminal: COLUMNS, else the terminal's, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(result_stream().fileno()).columns or _USUAL_WIDTH
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH


def bold(text: str) -> str:
    """Text in bold, if results go to a terminal and neither NO_COLOR nor a dumb terminal forbids it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not result_stream().isatty()
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def write(text: str) -> None:
    """Print text on the original standard output.

    Raises:
        PipeClosedError: the pipe is closed.
        OutputError: standard output cannot be written.
    """
    stream = result_stream()
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        _give_up(stream)
        raise PipeClosedError from error
    except OSError as error:
        _give_up(stream)
        raise OutputError(f"standard output cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def set_apart(*, for_good: bool) -> Iterator[None]:
    """Redirect standard output to standard error during the block, except for `write`.

    Args:
        for_good: the process ends after the block; output at exit (`atexit`) is redirected too.

    Raises:
        OutputError: standard output is closed.
    """
    global _result
    _open_the_missing()
    before, outer = sys.stdout, _result
    kept = os.dup(1)
    try:
        if _is_descriptor_1(before):
            before.flush()
            _result = open(kept, "w", encoding=before.encoding, errors=_ERRORS, closefd=False)  # noqa: SIM115
        else:  # captured already, as by tests
            _result, sys.stdout = before, sys.stderr
        os.dup2(2, 1)
        yield
    finally:
        if not for_good:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
            sys.stdout = before
        _result = outer


def _open_the_missing() -> None:
    """Open standard streams that the parent closed, since the next opened file would get their descriptors.

    Raises:
        OutputError: standard output is among them.
    """
    closed = sys.stdout is None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:  # `print(file=None)` prints on standard output
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if closed:
        raise OutputError("standard output is closed; point it at a file, or at /dev/null")


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (AttributeError, OSError, ValueError):
        return False


def _give_up(stream: TextIO) -> None:
    """Discard the stream's buffer, which Python would otherwise flush again at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _replace(error: UnicodeError) -> tuple[bytes | str, int]:
    """Keep bytes of file names; "?" for other characters outside the terminal's encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return b"".join(bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else b"?" for one in wrong), error.end


_ERRORS = "metamap-replace"
codecs.register_error(_ERRORS, _replace)
