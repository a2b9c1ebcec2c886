"""Wrong command lines, told in one sentence with the closest valid choice.

tyro prints boxes of several lines for them. They are kept for the help and read here only as text, since tyro's hooks
for errors are private to it: a tyro that words an error differently still gives a sentence and exit code 2.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_origin, get_type_hints

__all__ = ["UsageError", "parse", "unknown"]

Parsed = TypeVar("Parsed")


class UsageError(Exception):
    """The command line itself is wrong. As `MetaMapError`, but known without importing the simulator."""


def unknown(kind: str, name: str, choices: Iterable[str], *, of: str = "") -> UsageError:
    """Build the error for a word that is none of ``choices`` (of something), with the closest one first."""
    from difflib import get_close_matches

    valid = sorted(choices)
    close = get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    owner = f" of {of}" if of else ""
    return UsageError(f"unknown {kind} {name!r}{owner}: {hint}valid choices are {', '.join(map(repr, valid))}")


def parse(kind: type[Parsed], arguments: Sequence[str], *, program: str) -> Parsed:
    """Parse ``arguments`` into the dataclass ``kind``; `--help` prints and exits with code 0.

    Raises:
        UsageError: an unknown flag, a missing or superfluous argument, a value of the wrong type.
        SystemExit: after the help was printed.
    """
    import tyro

    _check_flags(kind, arguments, program)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=program, args=_gathered(kind, arguments), config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_sentence(complaint.getvalue())}; see {program} --help") from None


def _check_flags(kind: type[Any], arguments: Sequence[str], program: str) -> None:
    """Refuse unknown flags before anything else is looked at: tyro reports them last, and without the `=` form."""
    known = {"--help", *_flags(kind)}
    for argument in arguments:
        if argument == "--":
            return
        flag = argument.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and not flag.startswith("--tyro-"):
            raise unknown("flag", flag, known, of=program)


def _gathered(kind: type[Any], arguments: Sequence[str]) -> list[str]:
    """Give a flag of several values all that follow it: of `--set a --set b` tyro would take only the last."""
    several = {flag: [flag] for flag, hint in _flags(kind).items() if get_origin(hint) is tuple}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []  # what belongs to no flag
    parts, current = [first], first
    for argument in arguments[:end]:
        name, equals, value = argument.partition("=")
        flag = name.replace("_", "-")
        if not argument.startswith("--"):
            current.append(argument)
        elif flag not in several:
            current = [argument]
            parts.append(current)
        else:
            if several[flag] not in parts:
                parts.append(several[flag])
            several[flag].extend([value] if equals else [])
            current = first if equals else several[flag]
    return [argument for part in parts for argument in part] + list(arguments[end:])


def _flags(kind: type[Any], prefix: str = "") -> dict[str, Any]:
    """All flags that tyro makes of a dataclass, with their types; those of nested dataclasses as `--outer.inner`."""
    from dataclasses import MISSING, fields, is_dataclass

    from tyro.conf import Positional

    hints = get_type_hints(kind)
    annotated = get_type_hints(kind, include_extras=True)
    found: dict[str, Any] = {}
    for field in fields(kind):
        if not field.init or Positional in getattr(annotated[field.name], "__metadata__", ()):
            continue
        name = prefix + field.name.replace("_", "-")
        if is_dataclass(hint := hints[field.name]) and isinstance(hint, type):
            found |= _flags(hint, f"{name}.")
        elif hint is bool and field.default is True:
            found[f"--no-{name}"] = hint
        elif hint is bool and field.default is MISSING:
            found |= {f"--{name}": hint, f"--no-{name}": hint}
        else:
            found[f"--{name}"] = hint
    return found


def _sentence(box: str) -> str:
    """Take the message out of tyro's box: its lines up to the first rule, without frame and line breaks."""
    lines = [line.strip("│| \n") for line in box.splitlines()]
    title = lines[0].strip("╭╮─ +-") if lines else "the command line was not understood"
    body: list[str] = []
    for line in lines[1:]:
        if line and not line.strip("╰╯─ +-"):
            if body:
                break
            continue  # without UTF-8 the title stands on a rule, not in it
        body.append(line)
    text = " ".join(part for part in body if part).strip() or title
    return _reworded(text).rstrip(". ")


def _reworded(text: str) -> str:
    """Say tyro's common complaints in the words of this program."""
    if found := re.match(r"Missing from (?:.+?): (.+?)(?: \(required\))?$", text):
        names = [re.match(r"--\S+|\S+", part.strip()) for part in found[1].split("(required)")]
        return f"missing {' and '.join(name[0] for name in names if name)}"
    if found := re.match(r"invalid choice '(.*)' for argument '(.+?)'\. Expected one of \((.*)\)", text):
        choices = [choice for choice in re.findall(r"'([^']*)'", found[3]) if choice != "None"]
        return str(unknown("value", found[1], choices, of=found[2]))
    if found := re.match(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)", text):
        return f"{found[1]} expects a whole number, got {found[2]}"
    if found := re.match(r"Error parsing (\S+): could not convert string to float: (.*)", text):
        return f"{found[1]} expects a number, got {found[2]}"
    if found := re.match(r"Error parsing (\S+): no type matching \{None\}\|(INT|FLOAT) .*? from \[(.*?)\]", text):
        return f"{found[1]} expects a {'whole ' if found[2] == 'INT' else ''}number, got {found[3]}"
    if found := re.match(r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]", text):
        return f"{found[1]} cannot be read from {found[2]}"
    if found := re.match(r"Missing value for argument '(.+?)'", text):
        return f"{found[1]} expects a value"
    if found := re.match(r"Unrecognized options: (.*)", text):
        return f"unexpected argument {found[1]!r}"
    return text
