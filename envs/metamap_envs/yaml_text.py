"""YAML 1.2 values on top of PyYAML, which reads YAML 1.1; ambiguous values are refused.

Numbers are those of YAML 1.2, so 1e-3 is one, and digits may be grouped as in 1_000. Dates and 1:30 are text. What two
readers of YAML read differently (``yes``, ``010``), or what is text to all of them but a value to the eye (``None``,
``inf``, ``9,81``), is an error that says what to write. So are repeated keys, keys that are no text, NaN, tags, and
aliases that grow without bounds. Text in quotes is always text.
"""

from __future__ import annotations

import codecs
import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from metamap_envs.errors import MetaMapError, one_line
from metamap_envs.files import refuse_pipes

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]

_MOST_BYTES = 4 * 1024**2  # of a file
_MOST_VALUES = 100_000  # of a document whose aliases are written out
_LONGEST_NUMBER = 400  # characters

_CORE = "tag:yaml.org,2002:"
_TEXT, _NULL, _BOOL, _INT, _FLOAT = (_CORE + kind for kind in ("str", "null", "bool", "int", "float"))
_MAP, _SEQ, _MERGE = (_CORE + kind for kind in ("map", "seq", "merge"))
_READ = (_TEXT, _NULL, _BOOL, _INT, _FLOAT, _MAP, _SEQ, _MERGE)

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_PATTERNS = {
    _NULL: ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    _BOOL: ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    _INT: (r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)", list("-+0123456789")),
    _FLOAT: (
        rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    _MERGE: ("<<", ["<"]),
}
_AMBIGUOUS = {
    "!switch": ("yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF", list("yYnNoO"), "write true or false"),
    "!none": ("None", ["N"], "write null"),
    "!infinity": (r"[-+]?(?:inf|Inf|infinity|Infinity)|nan|NaN", list("-+iInN"), "write .inf for infinity"),
    "!octal": (r"[-+]?0[0-9_]*[0-9]", list("-+0"), "write a number without leading zeros, or 0o10 for an octal one"),
    "!comma": (r"[-+]?[0-9]+(?:,[0-9]+)+(?:\.[0-9]*)?", list("-+0123456789"), "write the number with a dot"),
}
"""Plain text that is refused as a value: its pattern, how it may begin, and what to write instead."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the resolvers and constructors of this module."""


class _Dumper(yaml.SafeDumper):
    """Puts in quotes whatever text `_Loader` would not read as that text."""

    def ignore_aliases(self, data: object) -> bool:
        """Write everything out."""
        return True


for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {}  # none of PyYAML's
    for _tag, (_pattern, _first, _) in _AMBIGUOUS.items():
        _kind.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
    for _tag, (_pattern, _first) in _PATTERNS.items():
        _kind.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def _number(loader: _Loader, node: ScalarNode) -> float:
    text = node.value
    if node.tag == _INT:
        return int(text, 0)
    return float(text.replace(".inf", "inf") if text.lower().endswith(".inf") else text)


_Loader.add_constructor(_INT, _number)
_Loader.add_constructor(_FLOAT, _number)
_Loader.add_constructor(_BOOL, lambda loader, node: node.value.lower() == "true")


def parse_yaml(text: str, what: str) -> Any:
    """Read YAML into plain values; no code in it is run.

    Args:
        text: one document.
        what: the file or thing that it is from, put in front of the error.

    Returns:
        Dictionaries with text as keys, lists, text, numbers, true and false, and None; None for an empty document.

    Raises:
        MetaMapError: it is no YAML, or of a kind that is refused here; the sentence names line and key.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(what, "\n" in text.strip())(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise MetaMapError(_not_yaml(error, what)) from None
    except yaml.YAMLError as error:
        raise MetaMapError(f"{what}: not YAML ({one_line(error)})") from None
    except RecursionError:
        raise MetaMapError(f"{what}: not YAML that can be read: lists or mappings are nested too deep") from None


def read_yaml(path: str | Path, what: str = "") -> Any:
    """Read a YAML file, in UTF-8 or in UTF-16 with its byte order mark; no code in it is run.

    Args:
        path: the file.
        what: prefix of the error. Default: the path.

    Raises:
        MetaMapError: no such file, a pipe or a device, one that cannot be read or is larger than 4 MiB, or as
            `parse_yaml`.
    """
    what = what or str(path)
    refuse_pipes(path, what)
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise MetaMapError(f"{what}: no such file") from None
    except OSError as error:
        raise MetaMapError(f"{what}: cannot be read ({error.strerror})") from None
    if len(content) > _MOST_BYTES:
        raise MetaMapError(f"{what}: cannot be read (a YAML file of more than {_MOST_BYTES // 1024**2} MiB)")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MetaMapError(f"{what}: cannot be read (line {line} is not UTF-8: save the file as UTF-8)") from None
    return parse_yaml(text, what)


def dump_yaml(document: object) -> str:
    """Plain values as YAML that `parse_yaml` reads back as they are."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Check:
    """Goes through a document before anything is made of it, and refuses what would be read wrongly."""

    def __init__(self, what: str, many_lines: bool) -> None:
        self._what, self._many_lines = what, many_lines
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def __call__(self, root: Node) -> None:
        """Check a document.

        Raises:
            MetaMapError: the first thing that is refused.
        """
        size = self._size(root, "")
        if size > max(_MOST_VALUES, len(self._sizes)):
            raise MetaMapError(f"{self._what}: its aliases (*name) expand to {size:,} values, which is too many")

    def _size(self, node: Node, place: str) -> int:
        """How many values a node stands for, each alias counted where it is used."""
        key = id(node)
        if key in self._open:
            raise self._error(node, place, "an alias (*name) that holds itself")
        if key not in self._sizes:
            self._open.add(key)
            self._sizes[key] = 1 + sum(self._size(child, at) for child, at in self._children(node, place))
            self._open.remove(key)
        return self._sizes[key]

    def _children(self, node: Node, place: str) -> list[tuple[Node, str]]:
        if node.tag not in _READ and node.tag not in _AMBIGUOUS:
            shown = node.tag.replace(_CORE, "!!")
            raise self._error(node, place, f"the tag {shown} is not read", "not YAML of plain values: ")
        if isinstance(node, ScalarNode):
            self._check_scalar(node, place)
        elif isinstance(node, SequenceNode):
            return [(child, f"{place}[{index}]") for index, child in enumerate(node.value)]
        elif isinstance(node, MappingNode):
            return self._values(node, place)
        return []

    def _values(self, node: MappingNode, place: str) -> list[tuple[Node, str]]:
        """The values of a mapping, whose keys are checked and become text."""
        found: list[tuple[Node, str]] = []
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (_TEXT, _MERGE, *_AMBIGUOUS):
                shown = key.value if isinstance(key, ScalarNode) else "a list or a mapping"
                hint = f": put {shown} in quotes" if isinstance(key, ScalarNode) else ""
                raise self._error(key, place, f"expected text as a key, got {shown or 'nothing'}{hint}")
            if key.tag in _AMBIGUOUS:
                key.tag = _TEXT  # a parameter may be called `on`
            at = f"{place}.{key.value}".lstrip(".")
            if key.value in seen:
                raise self._error(key, at, f"stands there twice, in line {seen[key.value]} already")
            seen[key.value] = key.start_mark.line + 1
            found.append((value, at))
        return found

    def _check_scalar(self, node: ScalarNode, place: str) -> None:
        text = node.value
        if node.tag in _AMBIGUOUS:
            hint = _AMBIGUOUS[node.tag][2]
            raise self._error(node, place, f"{text} is ambiguous in YAML: {hint}, or {text!r} for text")
        if node.tag not in _PATTERNS:
            return
        number = node.tag in (_INT, _FLOAT)
        patterns = [_PATTERNS[_INT][0], _PATTERNS[node.tag][0]] if node.tag == _FLOAT else [_PATTERNS[node.tag][0]]
        if not any(re.fullmatch(pattern, text) for pattern in patterns):
            raise self._error(node, place, f"expected {node.tag.replace(_CORE, '')} as its tag says, got {text!r}")
        if number and len(text) > _LONGEST_NUMBER:
            raise self._error(node, place, f"a number of {len(text)} characters")
        if number and text.lower().endswith(".nan"):
            raise self._error(node, place, "expected a number, got NaN")
        if node.tag == _FLOAT and "inf" not in text.lower() and math.isinf(float(text)):
            raise self._error(node, place, f"{text} is too large for a number")

    def _error(self, node: Node, place: str, problem: str, kind: str = "") -> MetaMapError:
        line = f"line {node.start_mark.line + 1}: " if self._many_lines else ""
        return MetaMapError(f"{self._what}: {kind}{line}{f'{place}: ' if place else ''}{problem}")


def _not_yaml(error: yaml.MarkedYAMLError, what: str) -> str:
    """PyYAML's complaint as a sentence."""
    mark, problem = error.problem_mark or error.context_mark, one_line(Exception(error.problem or error.context))
    if "'\\t'" in problem:
        problem = "a tab, where YAML takes spaces only"
    elif "another document" in problem:
        problem = "a second document begins; expected one"
    context = f"{error.context}, " if error.context and error.problem and "document" not in problem else ""
    where = f", line {mark.line + 1}" if mark is not None else ""
    return f"{what}: not YAML{where} ({context}{problem})"
