"""Help of several commands: `metamap --help` and that of a group."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

from metamap_rl.cli.groups import load_group, outlines
from metamap_rl.cli.outline import Outline
from metamap_rl.cli.standard_output import bold, width

__all__ = ["command_help", "group_help", "overview"]

SECTIONS = (
    (10, "Start"),
    (30, "Families and experts"),
    (50, "Mappers and policies"),
    (70, "Streams and benchmarks"),
    (90, "Results of this project"),
    (1000, "Installation"),
)
"""Headings of the help, each with the `ORDER` at which the next one begins."""

EXAMPLES = (
    ("metamap demo", "three families in a minute"),
    ("metamap adapt cheetah-velocity --parameters target_velocity=2.2", "a policy from 50 transitions"),
    ("metamap build boat.yml --out boat", "a mapper for an environment of your own"),
)


def overview() -> str:
    """Text of `metamap --help`."""
    groups = outlines()
    indent = max(len(group.name) for group in groups) + 4
    sections = [
        f"{bold(heading)}\n{_columns([(group.name, _about(group)) for group in inside], indent)}"
        for heading, inside in groupby(groups, key=_section)
    ]
    examples = "".join(f"  {command}\n      {text}\n" for command, text in EXAMPLES)
    return "\n".join(
        [
            "usage: metamap COMMAND [--help] ...\n",
            "A few transitions of an unseen task in, the weights of a policy for it out.\n",
            *sections,
            f"{bold('Examples')}\n{examples}",
            textwrap.fill(
                "`metamap COMMAND --help` explains a command, `metamap completion bash` completes them in a shell, "
                "`metamap --version` tells the version. Documentation: docs/index.md of the repository, as a site "
                "by `make docs`.",
                width(),
            )
            + "\n",
        ]
    )


def group_help(group: Outline) -> str:
    """Text of `metamap GROUP --help`."""
    rows = _rows(group)
    indent = max(len(left) for left, _ in rows) + 4
    about = textwrap.fill(group.help, width())
    return f"usage: metamap {group.name} COMMAND [--help] ...\n\n{about}\n\n{_columns(rows, indent)}"


def command_help() -> Iterator[tuple[str, str]]:
    """(Words, help) of every command, for the documentation."""
    from metamap_rl.cli.usage import help_of

    for group in outlines():
        for name, kind in load_group(group.name).items():
            words = f"{group.name} {name}".strip()
            yield words, help_of(kind, program=f"metamap {words}")


def _section(group: Outline) -> str:
    return next(heading for end, heading in SECTIONS if group.order < end)


def _about(group: Outline) -> str:
    """A group in one line: what it is, and its commands."""
    if "" in group.commands:
        return group.commands[""]
    return f"{group.help.removesuffix('.')} ({', '.join(group.commands)})."


def _rows(group: Outline) -> list[tuple[str, str]]:
    """(Words, help) of each command of a group."""
    return [(f"{group.name} {name}".strip(), text) for name, text in group.commands.items()]


def _columns(rows: list[tuple[str, str]], indent: int) -> str:
    return "".join(
        textwrap.fill(
            right,
            max(width(), indent + 20),
            initial_indent=f"  {left:<{indent - 2}}",
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        + "\n"
        for left, right in rows
    )
