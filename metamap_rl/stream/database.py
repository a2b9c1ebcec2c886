"""SQLite for records: tables of dataclasses, transactions, and errors as `MetaMapError`.

The file is in WAL mode with ``synchronous=FULL``: readers and the writer do not block each other, and commits are
durable. WAL needs a file system with shared memory, so the folder must not be on a network drive with writers on
several machines.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_origin, get_type_hints

import numpy as np

from metamap_envs.errors import MetaMapError

__all__ = ["Database", "Table"]

_WAIT_SECONDS = 5.0
_COLUMN_TYPES: dict[Any, str] = {
    int: "INTEGER NOT NULL",
    bool: "INTEGER NOT NULL",
    bool | None: "INTEGER",
    float: "REAL NOT NULL",
    float | None: "REAL",
    str: "TEXT NOT NULL",
    dict: "TEXT NOT NULL",
}

Row = TypeVar("Row")


class Table(Generic[Row]):
    """A table with the fields of a dataclass as columns.

    Args:
        name: name of the table.
        kind: the dataclass; fields are int, bool, float, str, a dict of JSON values, or bool or float or None.
        key: names of the fields of the primary key.
    """

    def __init__(self, name: str, kind: type[Row], key: Sequence[str]) -> None:
        hints = get_type_hints(kind)
        self.name = name
        self.kind = kind
        self.key = ", ".join(key)
        self.columns: dict[str, Any] = {
            field.name: get_origin(hint) if get_origin(hint := hints[field.name]) is dict else hint
            for field in fields(kind)  # type: ignore[arg-type]  # a dataclass, which type[Row] cannot say
        }

    @property
    def schema(self) -> str:
        """SQL statement that creates the table."""
        columns = ", ".join(f"{name} {_COLUMN_TYPES[kind]}" for name, kind in self.columns.items())
        return f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({self.key}))"

    @property
    def insert(self) -> str:
        """SQL statement that inserts a row."""
        return f"INSERT INTO {self.name} VALUES ({', '.join('?' * len(self.columns))})"

    @property
    def select(self) -> str:
        """SQL statement that selects rows; ``WHERE`` and ``ORDER BY`` may follow."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name}"

    def values(self, row: Row) -> tuple[Any, ...]:
        """Convert a row to SQLite values.

        Raises:
            MetaMapError: a number that is not finite: SQLite would store NULL for NaN.
        """
        return tuple(self._stored(name, getattr(row, name)) for name in self.columns)

    def row(self, values: Sequence[Any]) -> Row:
        """Convert SQLite values to a row.

        Raises:
            MetaMapError: a value of the wrong type.
        """
        pairs = zip(self.columns.items(), values, strict=True)
        return self.kind(**{name: self._read(name, kind, value) for (name, kind), value in pairs})

    def _stored(self, name: str, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            raise MetaMapError(f"{self.name}: {name}: expected a finite number, got {value}")
        return json.dumps(value, allow_nan=False) if isinstance(value, dict) else value

    def _read(self, name: str, kind: Any, value: Any) -> Any:
        try:
            if kind is dict:
                value = json.loads(value)
            if kind in (bool, bool | None) and value in (0, 1):
                value = bool(value)
            if isinstance(value, kind):
                return value
        except (TypeError, ValueError):
            pass
        raise MetaMapError(f"{self.name}: {name}: expected {getattr(kind, '__name__', kind)}, found {value!r}")


class Database:
    """A connection to one SQLite file.

    Args:
        path: an existing file.
        read_only: open without writing, including SQLite's files beside it if possible.

    Raises:
        MetaMapError: no such file, not SQLite, damaged, or locked by another program.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if not path.is_file():
            raise MetaMapError(f"{path}: no such file")
        self.path = path
        with self.translated_errors():
            self._connection = self._connect("mode=ro" if read_only else "mode=rw")
        try:
            self._check(read_only)
        except BaseException:
            self._connection.close()
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        # isolation_level=None: transactions are controlled by `transaction` alone.
        address = f"{self.path.absolute().as_uri()}?{mode}"
        return sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)

    def _check(self, read_only: bool) -> None:
        with self.translated_errors():
            try:
                found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.OperationalError as error:
                # In a read-only folder SQLite cannot create the WAL files.
                wal = self.path.with_name(f"{self.path.name}-wal")
                unwritable = error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
                if not read_only or wal.exists() or not unwritable:
                    raise
                self._connection.close()
                self._connection = self._connect("mode=ro&immutable=1")
                found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found[0] != "ok":
                raise MetaMapError(f"{self.path}: damaged ({_first_line(found[0])})")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement; returns its rows.

        Raises:
            MetaMapError: an error of SQLite.
        """
        with self.translated_errors():
            return self._connection.execute(statement, tuple(values)).fetchall()

    @contextmanager
    def transaction(self, *, reading: bool = False) -> Iterator[None]:
        """Run a block as one transaction, rolled back if it fails or the process dies.

        Args:
            reading: the block only reads, from a snapshot taken at its first statement.
        """
        self.execute("BEGIN" if reading else "BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def close(self) -> None:
        """Close the file."""
        with self.translated_errors():
            self._connection.close()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Convert SQLite's errors to `MetaMapError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise MetaMapError(f"{self.path}: {_reason(error)}") from error


def _reason(error: sqlite3.Error) -> str:
    """Human-readable reason of an error."""
    name = getattr(error, "sqlite_errorname", "")
    reasons = {
        "SQLITE_FULL": "the disk is full; what was recorded before is kept",
        "SQLITE_IOERR": "the disk refuses to read or write, it may be full or over a quota; "
        "what was recorded before is kept",
        "SQLITE_BUSY": "locked by another program; close it and try again",
        "SQLITE_LOCKED": "locked by another program; close it and try again",
        "SQLITE_CORRUPT": "damaged",
        "SQLITE_NOTADB": "not a SQLite file",
        "SQLITE_READONLY": "may not be written to",
        "SQLITE_CANTOPEN": "cannot be opened",
    }
    for start, reason in reasons.items():
        if name.startswith(start):
            return f"{reason} ({_first_line(str(error))})"
    return _first_line(str(error))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
