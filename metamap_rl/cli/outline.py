"""The outline of a module of commands, read from its source: importing them all would double the time of `--help`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

__all__ = ["Outline", "first_line", "outline"]

DEFAULT_ORDER = 100


class Outline(NamedTuple):
    """What the help says of a group.

    Attributes:
        name: first word on the command line.
        help: one line.
        order: place in the help.
        commands: one line of help by second word; the key is "" for a group that is itself the command.
    """

    name: str
    help: str
    order: int
    commands: dict[str, str]


def outline(path: Path) -> Outline:
    """Read the literals that a module of commands declares: docstrings, each class's `name`, `ORDER` and `COMMANDS`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = _assigned(tree)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    order = constants.get("ORDER")
    listed = constants.get("COMMANDS")
    commands = {}
    for item in listed.elts if isinstance(listed, ast.Tuple) else ():
        node = classes[ast.unparse(item)]
        commands[_text(_assigned(node)["name"])] = first_line(ast.get_docstring(node, clean=False))
    if list(commands) == [path.stem]:
        commands = {"": commands[path.stem]}
    return Outline(
        name=path.stem,
        help=first_line(ast.get_docstring(tree, clean=False)),
        order=int(_text(order)) if order else DEFAULT_ORDER,
        commands=commands,
    )


def first_line(docstring: str | None) -> str:
    """First line of a docstring, or ""."""
    return (docstring or "").strip().partition("\n")[0]


def _assigned(node: ast.Module | ast.ClassDef) -> dict[str, ast.expr]:
    """Names that a module or a class assigns in its own body, with the assigned expressions."""
    found: dict[str, ast.expr] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            found.update({target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)})
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            found[statement.target.id] = statement.value
    return found


def _text(expression: ast.expr) -> str:
    return str(ast.literal_eval(expression))
