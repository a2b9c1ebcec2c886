"""Text with separators: CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.data.readers.base import READERS, Reader, Recording, check_size

__all__ = ["Csv"]

_BYTES_OF_A_CELL = 60  # of Python's text, in memory
_WORDS = {"true": 1.0, "false": 0.0}


@READERS.register("csv")
class Csv(Reader):
    """A line of names, then a line for each row; separated by commas, semicolons or tabs, with a dot in numbers.

    Empty lines, and lines that begin with ``#``, are skipped. Text columns are kept as text.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        check_size(path, path.stat().st_size)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise MetaMapError(f"{path}: expected text in UTF-8, it is something else") from None
        except OSError as error:
            raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error
        if "\x00" in text:
            raise MetaMapError(f"{path}: expected text, it holds null bytes")
        numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if _counts(line)]
        if not numbered:
            raise MetaMapError(f"{path}: expected a line of names and lines of numbers, it is empty")
        separator = max(",;\t", key=numbered[0][1].count)
        check_size(path, _BYTES_OF_A_CELL * sum(line.count(separator) + 1 for _, line in numbered))
        try:
            rows = list(csv.reader((line for _, line in numbered), delimiter=separator, strict=True))
        except csv.Error as error:
            raise MetaMapError(f"{path}: {error}") from error
        if len(rows) != len(numbered):
            raise MetaMapError(f"{path}: expected one row on each line, a quoted cell spans several")
        names = [name.strip() for name in rows[0]]
        _check_names(names, path)
        for (number, _), row in zip(numbered, rows, strict=True):
            if len(row) != len(names):
                cut = "; the file is cut off there" if number == numbered[-1][0] and len(row) < len(names) else ""
                raise MetaMapError(f"{path}: line {number}: expected {len(names)} columns, got {len(row)}{cut}")
        lines = [number for number, _ in numbered[1:]]
        columns = {name: _column([row[at] for row in rows[1:]], lines) for at, name in enumerate(names)}
        whole = text.endswith(("\n", "\r"))
        notes = () if whole else (f"{path}: does not end with a line break: its last line may be cut off",)
        return Recording(columns, str(path), notes=notes)


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _check_names(names: Sequence[str], path: Path) -> None:
    """Refuse a first line of numbers, and names that are empty or repeated."""
    numbers = sum(_number(name) is not None for name in names)
    if numbers == len(names):
        raise MetaMapError(f"{path}: expected a first line with the names of the columns, it has numbers")
    for name in names:
        if not name:
            raise MetaMapError(f"{path}: column {names.index(name) + 1} has no name")
        if names.count(name) > 1:
            raise MetaMapError(f"{path}: the column {name!r} is there {names.count(name)} times")


def _column(cells: Sequence[str], lines: Sequence[int]) -> NDArray[Any]:
    """Numbers in float64, else text with its line, for the message where it is used."""
    numbers = [_number(cell) for cell in cells]
    if None not in numbers:
        return np.array(numbers, dtype=np.float64)
    return np.array(
        [f"{cell!r} on line {line}" if _number(cell) is None else "" for cell, line in zip(cells, lines, strict=True)]
    )


def _number(cell: str) -> float | None:
    word = cell.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        return float(word) if "_" not in word else None
    except ValueError:
        return None
