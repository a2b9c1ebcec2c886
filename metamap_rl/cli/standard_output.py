"""Standard output is for the result alone: whatever else is printed goes to standard error.

Environments of users print when they are imported, made, stepped and taken down, from Python, from C and from child
processes. So file descriptor 1 is pointed at standard error while a command runs; only `write` reaches the real one.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["OutputError", "PipeClosedError", "result_stream", "set_apart", "width", "write"]

_USUAL_WIDTH = 80

_result: TextIO | None = None  # where results go while standard output is set apart


class OutputError(Exception):
    """The result cannot be printed. The command line prints the sentence and exits with code 2."""


class PipeClosedError(Exception):
    """The reader of the pipe has left, as in `metamap ... | head`: no error, and nothing more to do."""


def result_stream() -> TextIO:
    """The stream that results go to.

    Raises:
        OutputError: standard output was closed before the program began.
    """
    stream = _result if _result is not None else sys.stdout
    if stream is None:
        raise OutputError("standard output is closed; point it at a file, or at /dev/null")
    return stream


def width() -> int:
    """Columns of the terminal that results go to: what COLUMNS says, else what the terminal says, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(result_stream().fileno()).columns or _USUAL_WIDTH
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH


def write(text: str) -> None:
    """Print text on the real standard output.

    Raises:
        PipeClosedError: the pipe's reader has left.
        OutputError: it cannot be written.
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
    """Point standard output at standard error while the block runs, except for what `write` prints.

    Args:
        for_good: the process ends after the block, and what is printed then (`atexit`) is not to follow the result.

    Raises:
        OutputError: standard output was closed before the program began.
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
    """Open standard streams that the parent process has closed: the next file would take their numbers, and their text.

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
    """Let what the stream still holds go nowhere: Python would try once more at exit, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _replace(error: UnicodeError) -> tuple[bytes | str, int]:
    """Bytes of file names as they were; "?" for other characters that the terminal's encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return b"".join(bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else b"?" for one in wrong), error.end


_ERRORS = "metamap-replace"
codecs.register_error(_ERRORS, _replace)
