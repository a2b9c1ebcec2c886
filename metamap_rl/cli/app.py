"""Entry point of the command line: finds and runs a command; errors become one sentence and an exit code.

Exit codes: 0 success; 1 negative answer of the command; 2 invalid input, or stopped by Ctrl-C; 141 closed pipe. Any
other exception is a bug and shows a traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from metamap_rl import __version__
from metamap_rl.cli.console import note
from metamap_rl.cli.groups import group_names, group_outline, load_group
from metamap_rl.cli.overview import group_help, overview
from metamap_rl.cli.standard_output import OutputError, PipeClosedError, set_apart, write
from metamap_rl.cli.usage import UsageError, parse, unknown

if TYPE_CHECKING:
    from metamap_rl.cli.command import Command

__all__ = ["main"]

_BAD_INPUT, _STOPPED, _PIPE_CLOSED = 2, 2, 141
_HELP = ("-h", "--help")
_REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR),
    *(
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EIO,
        errno.EMFILE,
        errno.EBUSY,
    ),
)
"""Errors of the file system that are not bugs."""
_LARGEST_SEED = 2**31 - 1  # accepted by every seeded library


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `metamap`.

    Args:
        arguments: the command line without the program's name; default `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    running: list[type[Command]] = []
    try:
        with set_apart(for_good=arguments is None):
            return _run(list(sys.argv[1:] if arguments is None else arguments), running)
    except KeyboardInterrupt:
        remains = running[0].if_stopped if running else "nothing was started"
        return _complain(f"stopped; {remains}", _STOPPED)
    except PipeClosedError:
        return _PIPE_CLOSED
    except Exception as error:
        if isinstance(error, UsageError | OutputError) or _is_bad_input(error):
            return _complain(str(error), _BAD_INPUT)
        if isinstance(error, OSError) and error.errno in _REFUSED:
            return _complain(_refusal(error), _BAD_INPUT)
        raise


def _run(arguments: list[str], running: list[type[Command]]) -> int:
    """Find the command that ``arguments`` name and run it, noting its class in ``running``."""
    if not arguments or arguments[0] in _HELP:
        if not arguments:
            sys.stderr.write(overview())
            return _BAD_INPUT
        write(overview())
        return 0
    if arguments[0] == "--version":
        write(f"metamap {__version__}\n")
        return 0
    kind, words = _find(arguments)
    if kind is None:
        return 0
    running.append(kind)
    program = " ".join(["metamap", *arguments[:words]])
    try:
        command = parse(kind, arguments[words:], program=program)
    except SystemExit:  # the help was printed
        return 0
    if not 0 <= command.seed <= _LARGEST_SEED:
        raise UsageError(f"--seed: expected a whole number in [0, {_LARGEST_SEED}], got {command.seed}")
    code = command.run()
    if code == 0 and not command.json and (following := command.next_command()):
        write(f"next: {following}\n")
    return code


def _find(arguments: list[str]) -> tuple[type[Command] | None, int]:
    """Find the command's class and the number of words that name it; no class for a group's help."""
    names = group_names()
    if arguments[0] not in names:
        if arguments[0].startswith("-"):
            raise unknown("flag", arguments[0], ["--help", "--version"])
        raise unknown("command", arguments[0], names)
    name, second = arguments[0], arguments[1] if len(arguments) > 1 else ""
    if second in _HELP and "" not in group_outline(name).commands:
        write(group_help(group_outline(name)))
        return None, 1
    choices = load_group(name)
    if "" in choices:
        return choices[""], 1
    if not second:
        raise UsageError(f"{name} needs a command: {', '.join(choices)}")
    if second not in choices:
        raise unknown("command", second, choices, of=f"metamap {name}")
    return choices[second], 2


def _is_bad_input(error: Exception) -> bool:
    """Whether ``error`` is a `MetaMapError`, without importing the simulator to find out."""
    module = sys.modules.get("metamap_envs.errors")
    return module is not None and isinstance(error, module.MetaMapError)


def _refusal(error: OSError) -> str:
    """Message of a file system error, with its file."""
    try:
        os.getcwd()
    except OSError:
        return "the working directory is gone: change to another one"
    place = error.filename2 or error.filename
    return f"{place or 'a file'}: cannot be read or written ({error.strerror})"


def _complain(sentence: str, code: int) -> int:
    """Print one sentence on standard error."""
    note(" ".join(sentence.split()))
    return code
