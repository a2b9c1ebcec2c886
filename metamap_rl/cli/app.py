"""Entry point of the command line: finds the command, runs it, turns errors into sentences and exit codes.

Exit codes: 0 success; 1 the command's own "no"; 2 bad input; 130 stopped by Ctrl-C; 141 the reader of a pipe left. Any
other exception is a bug and stays a traceback.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from metamap_rl import __version__
from metamap_rl.cli import commands
from metamap_rl.cli.command import Command
from metamap_rl.cli.usage import UsageError, parse, unknown

__all__ = ["main"]

_BAD_INPUT, _STOPPED, _PIPE_CLOSED = 2, 130, 141
_HELP = ("-h", "--help")


@dataclass(frozen=True)
class _Group:
    """A module of `metamap_rl.cli.commands`.

    Attributes:
        name: first word on the command line.
        help: one line.
        order: place in the help.
        commands: by second word; the key is "" for a group that is itself the command.
    """

    name: str
    help: str
    order: int
    commands: dict[str, type[Command]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `metamap`.

    Args:
        arguments: the command line without the program's name; by default the process's own.

    Returns:
        The exit code.
    """
    running: list[type[Command]] = []
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments), running)
        sys.stdout.flush()
    except KeyboardInterrupt:
        remains = running[0].if_stopped if running else Command.if_stopped
        return _complain(f"stopped; {remains}", _STOPPED)
    except BrokenPipeError:
        # Nobody reads any more (`metamap ... | head`). Python would flush once again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception as error:
        if isinstance(error, UsageError) or _is_bad_input(error):
            return _complain(str(error), _BAD_INPUT)
        raise
    return code


def _run(arguments: list[str], running: list[type[Command]]) -> int:
    """Find the command that ``arguments`` name and run it, noting its class in ``running``."""
    if not arguments or arguments[0] in _HELP:
        print(_overview(), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else _BAD_INPUT
    if arguments[0] == "--version":
        print(f"metamap {__version__}")
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
    return command.run()


def _find(arguments: list[str]) -> tuple[type[Command] | None, int]:
    """Find the command's class and how many words name it; no class if only the group's help was asked for."""
    names = _group_names()
    if arguments[0] not in names:
        if arguments[0].startswith("-"):
            raise unknown("flag", arguments[0], ["--help", "--version"])
        raise unknown("command", arguments[0], names)
    group = _load_group(arguments[0])
    if "" in group.commands:
        return group.commands[""], 1
    if len(arguments) > 1 and arguments[1] in _HELP:
        print(_group_help(group), end="")
        return None, 1
    if len(arguments) < 2:
        raise UsageError(f"{group.name} needs a command: {', '.join(group.commands)}")
    if arguments[1] not in group.commands:
        raise unknown("command", arguments[1], group.commands, of=f"metamap {group.name}")
    return group.commands[arguments[1]], 2


def _group_names() -> list[str]:
    """Names of the groups, from the file names alone."""
    return [found.name for found in pkgutil.iter_modules(commands.__path__) if not found.name.startswith("_")]


def _load_group(name: str) -> _Group:
    """Import one module of commands."""
    module = importlib.import_module(f"{commands.__name__}.{name}")
    classes: tuple[type[Command], ...] = module.COMMANDS
    single = len(classes) == 1 and classes[0].name == name
    return _Group(
        name=name,
        help=_first_line(module.__doc__),
        order=getattr(module, "ORDER", 100),
        commands={"" if single else kind.name: kind for kind in classes},
    )


def _overview() -> str:
    """Text of `metamap --help`."""
    groups = sorted((_load_group(name) for name in _group_names()), key=lambda group: (group.order, group.name))
    rows = [row for group in groups for row in _rows(group)]
    return (
        "usage: metamap COMMAND [--help] ...\n\n"
        "A few transitions of a new environment in, the weights of a policy for it out.\n\n"
        f"{_columns(rows)}\n"
        "`metamap COMMAND --help` explains a command; `metamap --version` tells the version.\n"
    )


def _group_help(group: _Group) -> str:
    """Text of `metamap GROUP --help`."""
    return f"usage: metamap {group.name} COMMAND [--help] ...\n\n{group.help}\n\n{_columns(_rows(group))}"


def _rows(group: _Group) -> list[tuple[str, str]]:
    """(words, first line of the help) of each command of a group."""
    return [(f"{group.name} {name}".strip(), _first_line(kind.__doc__)) for name, kind in group.commands.items()]


def _columns(rows: list[tuple[str, str]]) -> str:
    width = max((len(left) for left, _ in rows), default=0)
    return "".join(f"  {left:<{width}}  {right}\n" for left, right in rows)


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _is_bad_input(error: Exception) -> bool:
    """Whether ``error`` is a `MetaMapError`, without importing the simulator to find out."""
    module = sys.modules.get("metamap_envs.errors")
    return module is not None and isinstance(error, module.MetaMapError)


def _complain(sentence: str, code: int) -> int:
    """Tell the user one sentence on standard error."""
    print(f"metamap: {sentence}", file=sys.stderr)
    return code
