"""Reads a command line into a command's dataclass; a wrong one is told in one sentence with the closest valid choice.

The fields are the flags, their docstrings the help. `argparse` converts, notices what is missing and prints the help.
It is given the line in one form, ``--flag=value ... -- words``, so that values may begin with a dash, flags of several
values may be repeated, and words may stand anywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from metamap_rl.cli.standard_output import width, write
from metamap_rl.common.config import bare

__all__ = ["Inline", "Metavar", "Positional", "UsageError", "fields_of", "help_of", "parse", "unknown"]

Parsed = TypeVar("Parsed")
_Value = TypeVar("_Value")
_HELP = ("-h", "--help")
_POSITIONAL, _INLINE = "positional", "inline"
_METAVARS: dict[Any, str] = {int: "N", float: "NUMBER", Path: "PATH"}
_WIDEST_HELP = 100  # columns

Positional = Annotated[_Value, _POSITIONAL]
"""A field that is a word on the command line, not a flag."""

Inline = Annotated[_Value, _INLINE]
"""A field that is a dataclass, whose fields are flags without its name in front; the command's own go before."""


@dataclasses.dataclass(frozen=True)
class Metavar:
    """In a field's annotation: what stands for its value in the help."""

    name: str


class UsageError(Exception):
    """The command line itself is wrong. As `MetaMapError`, but known without importing the simulator."""


def unknown(kind: str, name: str, choices: Iterable[str], *, of: str = "") -> UsageError:
    """Build the error for a word that is none of ``choices`` (of something), with the closest one first."""
    from difflib import get_close_matches

    valid = sorted(choices)
    bare_names = {choice.lstrip("-"): choice for choice in valid}  # dashes would make any two flags alike
    close = get_close_matches(name.lstrip("-"), bare_names, n=1, cutoff=0.5)
    hint = f"did you mean {bare_names[close[0]]!r}? " if close else ""
    owner = f" of {of}" if of else ""
    return UsageError(f"unknown {kind} {name!r}{owner}: {hint}valid choices are {', '.join(map(repr, valid))}")


def parse(kind: type[Parsed], arguments: Sequence[str], *, program: str) -> Parsed:
    """Parse ``arguments`` into the dataclass ``kind``; `--help` prints and exits with code 0.

    Raises:
        UsageError: an unknown flag, a missing or superfluous argument, a value of the wrong type.
        SystemExit: after the help was printed.
    """
    fields = fields_of(kind)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if any(word in _HELP for word in arguments[:end]):
        write(help_of(kind, program=program))
        raise SystemExit(0)
    line = _in_one_form(fields, arguments, end, program)
    found = vars(_parser(kind, fields, program).parse_args(line))
    return _made(kind, {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


def help_of(kind: type[Any], *, program: str) -> str:
    """Text of a command's `--help`."""
    return _parser(kind, fields_of(kind), program, with_help=True).format_help()


@dataclasses.dataclass(frozen=True)
class _Field:
    """One flag or positional word: a field of the dataclass, or of a dataclass in it."""

    path: str  # "inner.rate" for the field `rate` of the field `inner`
    word: str  # the same, without the names of inline fields
    kind: Any  # the type of one value
    several: bool
    default: object  # dataclasses.MISSING if it must be given
    positional: bool
    metavar: str
    owner: type[Any]  # the dataclass that declares it

    @property
    def switch(self) -> bool:
        return self.kind is bool

    @property
    def flag(self) -> str:
        return f"--{'no-' if self.default is True else ''}{self.word.replace('_', '-')}"

    @property
    def name(self) -> str:
        """What the user knows it by."""
        return self.metavar if self.positional else self.flag


def fields_of(kind: type[Any]) -> list[_Field]:
    """All that can be given for a dataclass; of inline ones nothing that it has itself."""
    found: dict[str, _Field] = {}
    for field in _fields(kind):
        found.setdefault(field.name, field)
    return list(found.values())


def _fields(kind: type[Any], prefix: str = "", shown: str = "") -> Iterator[_Field]:
    """All that can be given for a dataclass; ``shown`` is of ``prefix`` what flags begin with."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        hint, extras = bare(hints[field.name])
        if several := get_origin(hint) is tuple:
            hint, _ = bare(get_args(hint)[0])
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            inline = _INLINE in extras or bool(prefix and not shown)
            yield from _fields(hint, f"{prefix}{field.name}.", shown if inline else f"{shown}{field.name}.")
            continue
        metavars = [extra.name for extra in extras if isinstance(extra, Metavar)]
        yield _Field(
            path=prefix + field.name,
            word=shown + field.name,
            kind=hint,
            several=several,
            default=field.default,
            positional=_POSITIONAL in extras,
            metavar=metavars[0] if metavars else _metavar(hint, field.name),
            owner=kind,
        )


def _metavar(kind: Any, name: str) -> str:
    return (
        "{" + ",".join(map(str, get_args(kind))) + "}"
        if get_origin(kind) is Literal
        else _METAVARS.get(kind, name.upper())
    )


def _in_one_form(fields: Sequence[_Field], arguments: Sequence[str], end: int, program: str) -> list[str]:
    """Write the command line as ``--flag=value ... -- words``; ``end`` is where the user's own ``--`` stands.

    Raises:
        UsageError: an unknown flag, one without a value, or too many words.
    """
    flags = {field.flag: field for field in fields if not field.positional}
    words: list[str] = []
    line: list[str] = []
    rest = list(arguments[:end])
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if not word.startswith("-") or word == "-" or _is_number(word):
            words.append(word)
            continue
        if flag not in flags:
            raise unknown("flag", flag, [*flags, "--help"], of=program)
        if flags[flag].switch:
            if equals:
                raise UsageError(f"{flag} takes no value, got {value!r}; see {program} --help")
            line.append(flag)
            continue
        values = [value] if equals else []
        while not equals and rest and not rest[0].startswith("--") and (flags[flag].several or not values):
            values.append(rest.pop(0))
        if not values:
            raise UsageError(f"{flag}: expected a value; see {program} --help")
        line += [f"{flag}={value}" for value in values]
    words += arguments[end + 1 :]
    places = [field for field in fields if field.positional]
    if len(words) > len(places) and not any(field.several for field in places):
        raise UsageError(f"unexpected argument {words[len(places)]!r}; see {program} --help")
    return [*line, "--", *words] if words else line


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class _Parser(argparse.ArgumentParser):
    """Tells errors as sentences instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message in the words of this program."""
        for before, after in (
            ("the following arguments are required: ", "missing "),
            ("argument ", ""),
        ):
            if message.startswith(before):
                message = after + message.removeprefix(before)
                message = re.sub(r" \[[A-Z]+ \.\.\.\]", "", message)  # "DIR [DIR ...]": one is missing
                break
        raise UsageError(f"{message}; see {self.prog} --help")


def _parser(kind: type[Any], fields: Sequence[_Field], program: str, *, with_help: bool = False) -> _Parser:
    """A parser of the line in one form, or one that prints the help."""
    parser = _Parser(
        prog=program,
        usage=" ".join([program, "[flags]", *(_shown(field) for field in fields if field.positional)]),
        description=_text(kind.__doc__) if with_help else None,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=_help_width()),
        add_help=False,
        allow_abbrev=False,
    )
    words, flags = parser.add_argument_group("arguments"), parser.add_argument_group("flags")
    flags.add_argument(*_HELP, action="help", default=argparse.SUPPRESS, help="Show this and exit.")
    told = {owner: _docstrings(owner) for owner in {field.owner for field in fields}} if with_help else {}
    for field in fields:
        options: dict[str, Any] = {"default": argparse.SUPPRESS}
        if with_help:
            options["help"] = _help(field, told[field.owner])
        if field.switch:
            value = field.default is not True
            flags.add_argument(field.flag, dest=field.path, action="store_const", const=value, **options)
            continue
        options |= {"type": _converter(field), "metavar": field.metavar}
        if field.several and not field.positional:
            options["metavar"] = f"{field.metavar.removesuffix(' ...')} ..."
        required = field.default is dataclasses.MISSING
        if field.positional:
            many = ("+" if required else "*") if field.several else (None if required else "?")
            words.add_argument(field.path, nargs=many, **options)
        else:
            how = "append" if field.several else "store"
            flags.add_argument(field.flag, dest=field.path, action=how, required=required, **options)
    return parser


def _converter(field: _Field) -> Any:
    """Turns text into a field's value, or says what was expected.

    argparse puts the argument's name in front of what is raised.
    """

    def convert(text: str) -> Any:
        if text is argparse.SUPPRESS:  # the default of a word that may be left out: argparse sets nothing then
            return text
        if get_origin(field.kind) is Literal:
            choices = {str(choice): choice for choice in get_args(field.kind)}
            if text not in choices:
                raise unknown("value", text, choices, of=field.name)
            return choices[text]
        if field.kind is Path and not text:
            raise argparse.ArgumentTypeError("expected a path, got ''")
        if field.kind in (int, float):
            try:
                number = field.kind(text)
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                return number
            whole = "whole " if field.kind is int else ""
            expected = f"{whole}numbers" if field.several else f"a {whole}number"
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return field.kind(text)

    return convert


def _made(kind: type[Parsed], given: Mapping[str, Any]) -> Parsed:
    """The dataclass, from values by path."""
    values: dict[str, Any] = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # only dataclasses are parsed
        inner = {path.partition(".")[2]: value for path, value in given.items() if path.startswith(f"{field.name}.")}
        if field.name in given:
            values[field.name] = given[field.name]
        elif inner:
            values[field.name] = _made(bare(hints[field.name])[0], inner)
    return kind(**values)


# help -----------------------------------------------------------------------------------------------------------------


def _help_width() -> int:
    return max(20, min(width(), _WIDEST_HELP) - 2)


def _shown(field: _Field) -> str:
    """A positional word in the usage line."""
    text = field.metavar + (" ..." if field.several and " " not in field.metavar else "")
    return text if field.default is dataclasses.MISSING else f"[{text}]"


def _help(field: _Field, told: Mapping[str, str]) -> str:
    """A field's docstring, one of those that its dataclass has, and its default, if that says anything."""
    text = told.get(field.path.rpartition(".")[2], "")
    if field.default is dataclasses.MISSING and not field.positional:
        text += " (required)"
    elif field.default not in (dataclasses.MISSING, None, (), "") and not field.switch:
        values = field.default if isinstance(field.default, tuple) else (field.default,)
        text += f" (default: {' '.join(map(str, values))})"
    return text.strip().replace("%", "%%")


def _text(docstring: str | None) -> str:
    """The paragraphs of a docstring, as wide as the terminal allows; indented lines stay as they are."""
    import inspect

    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(one if "\n " in one else textwrap.fill(one, _help_width()) for one in paragraphs)


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """The text below each field, also of the classes that ``kind`` inherits from."""
    import ast
    import inspect

    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        assert isinstance(body, ast.ClassDef), "the source of a class"
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value)))
    return found
