"""The record of a stream: one SQLite file with the results of each stage and the evaluations after it.

A stage is written in one transaction, so that a killed process leaves complete stages. One process may have the record
open for writing; any number may read it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from metamap_agents.runtime.storage import write_bytes
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.stream.database import Database, Table
from metamap_rl.stream.rows import DECISIONS, Entry, EvaluationRow, StageRow

__all__ = ["DECISIONS", "SCHEMA_VERSION", "Entry", "EvaluationRow", "Record", "StageRow"]

SCHEMA_VERSION = 1
"""Version of the schema; incremented with any change."""

_FORMAT = "metamap-stream-record"
_LOCK_SECONDS = 0.2


@dataclass(frozen=True)
class _Checkpoint:
    stage: int
    sha: str


@dataclass(frozen=True)
class _Timing:
    stage: int
    name: str
    seconds: float


@dataclass(frozen=True)
class _Note:
    stage: int
    number: int
    text: str


@dataclass(frozen=True)
class _Meta:
    key: str
    value: str


_STAGES = Table("stages", StageRow, ["stage"])
_EVALUATIONS = Table("evaluations", EvaluationRow, ["stage", "split", "position", "steps"])
_CHECKPOINTS = Table("checkpoints", _Checkpoint, ["stage"])
_TIMINGS = Table("timings", _Timing, ["stage", "name"])
_NOTES = Table("notes", _Note, ["stage", "number"])
_LOG = Table("log", Entry, ["number"])
_META = Table("meta", _Meta, ["key"])
_TABLES: tuple[Table[Any], ...] = (_META, _STAGES, _EVALUATIONS, _CHECKPOINTS, _TIMINGS, _NOTES, _LOG)

Value = Literal["score", "mean_return"]
"""Values available in a matrix."""


class Record:
    """The record of one stream. Open with `create` or `open`, and close it or use a ``with`` block."""

    def __init__(self, database: Database, lock: FileLock | None) -> None:
        self.path = database.path
        self._database = database
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path) -> Record:
        """Create an empty record and open it for writing.

        Raises:
            MetaMapError: the file exists, another process is creating it, or a write error.
        """
        path = Path(path)
        lock = _claim(path)
        try:
            if path.exists():
                raise MetaMapError(f"{path}: already exists; choose another folder for a new stream")
            _write_empty(path)
            return cls(Database(path), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> Record:
        """Open a record.

        Args:
            path: the file.
            read_only: open for reading, also while another process is writing.

        Raises:
            MetaMapError: no such file, not SQLite or not a record, damaged, of another schema version, or open for
                writing in another process.
        """
        path = Path(path)
        if not path.is_file():
            raise MetaMapError(f"{path}: no such file")
        lock = None if read_only else _claim(path)
        try:
            database = Database(path, read_only=read_only)
            _check_version(database)
            return cls(database, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @staticmethod
    def is_open_for_writing(path: str | Path) -> bool:
        """Whether any process has the record at ``path`` open for writing."""
        if not _lock_path(Path(path)).exists():
            return False
        try:
            with FileLock(_lock_path(Path(path)), timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a read-only folder, so there is no writer
            return False

    def close(self) -> None:
        """Close the file and release the lock."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # writing ------------------------------------------------------------------------------------------------------

    def add_stage(
        self,
        row: StageRow,
        evaluations: Sequence[EvaluationRow],
        checkpoint: str,
        timings: Mapping[str, float],
        notes: Sequence[str] = (),
    ) -> None:
        """Record a stage in one transaction.

        Args:
            row: results of the stage.
            evaluations: evaluations after it; may be empty.
            checkpoint: artifact to resume from after this stage.
            timings: seconds by activity.
            notes: human-readable sentences.

        Raises:
            MetaMapError: not the next stage, an evaluation of another stage or a duplicate, a number that is not
                finite, or a write error.
        """
        if row.stage != self.last_stage + 1:
            raise MetaMapError(f"{self.path}: expected stage {self.last_stage + 1}, got {row.stage}")
        for evaluation in evaluations:
            if evaluation.stage != row.stage:
                raise MetaMapError(f"{self.path}: an evaluation of stage {evaluation.stage} in stage {row.stage}")
        with self._database.transaction():
            self._insert(_STAGES, [row])
            self._insert(_EVALUATIONS, evaluations)
            self._insert(_CHECKPOINTS, [_Checkpoint(row.stage, checkpoint)])
            self._insert(_TIMINGS, [_Timing(row.stage, name, seconds) for name, seconds in timings.items()])
            self._insert(_NOTES, [_Note(row.stage, number, text) for number, text in enumerate(notes)])

    def add_evaluations(self, evaluations: Sequence[EvaluationRow]) -> None:
        """Record evaluations without a stage, such as those of the initial mapper (stage 0), in one transaction."""
        with self._database.transaction():
            self._insert(_EVALUATIONS, evaluations)

    def log(self, text: str) -> None:
        """Add a line to the log, with the time."""
        with self._database.transaction():
            number = self._database.execute("SELECT COUNT(*) FROM log")[0][0]
            self._insert(_LOG, [Entry(number, time.time(), text)])

    def _insert(self, table: Table[Any], rows: Sequence[Any]) -> None:
        for row in rows:
            self._database.execute(table.insert, table.values(row))

    # reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def still(self) -> Iterator[None]:
        """Read from a snapshot of the record throughout the block."""
        with self._database.transaction(reading=True):
            yield

    @property
    def last_stage(self) -> int:
        """The last recorded stage; 0 if there is none."""
        return int(self._database.execute("SELECT COALESCE(MAX(stage), 0) FROM stages")[0][0])

    def checkpoint(self) -> tuple[int, str] | None:
        """The last stage and its checkpoint artifact; None before the first stage."""
        rows = self._read(_CHECKPOINTS, "ORDER BY stage DESC LIMIT 1")
        return (rows[0].stage, rows[0].sha) if rows else None

    def stages(self) -> list[StageRow]:
        """All stages, in order."""
        return self._read(_STAGES, "ORDER BY stage")

    def evaluations(self, stage: int | None = None) -> list[EvaluationRow]:
        """All evaluations (after one stage), ordered by stage, split, position and length of D."""
        where, values = ("", ()) if stage is None else ("WHERE stage = ? ", (stage,))
        return self._read(_EVALUATIONS, f"{where}ORDER BY {_EVALUATIONS.key}", values)

    def timings(self) -> dict[int, dict[str, float]]:
        """Seconds by stage and activity."""
        found: dict[int, dict[str, float]] = {stage: {} for stage in range(1, self.last_stage + 1)}
        for timing in self._read(_TIMINGS, "ORDER BY rowid"):
            found.setdefault(timing.stage, {})[timing.name] = timing.seconds
        return found

    def notes(self) -> dict[int, tuple[str, ...]]:
        """Notes by stage; stages without notes are omitted."""
        found: dict[int, tuple[str, ...]] = {}
        for note in self._read(_NOTES, f"ORDER BY {_NOTES.key}"):
            found[note.stage] = (*found.get(note.stage, ()), note.text)
        return found

    def entries(self) -> list[Entry]:
        """The log, oldest first."""
        return self._read(_LOG, "ORDER BY number")

    def comparable(self) -> dict[str, Any]:
        """The reproducible content as JSON values: everything but timings and log."""
        return {
            "stages": [asdict(row) for row in self.stages()],
            "evaluations": [asdict(row) for row in self.evaluations()],
            "checkpoints": [row.sha for row in self._read(_CHECKPOINTS, "ORDER BY stage")],
            "notes": {str(stage): list(texts) for stage, texts in self.notes().items()},
        }

    def matrix(self, split: str, *, steps: int | None = None, value: Value = "score") -> NDArray[np.float64]:
        """Evaluations of a split as ``R[i, j]``, task j (from 0) after stage i (0: before the first).

        Args:
            split: "stream" or "held-out".
            steps: length of D; None if there is a single one.
            value: value in R.

        Returns:
            float64 [stages so far + 1, tasks of the split], NaN where not measured.

        Raises:
            MetaMapError: an unknown value, or several lengths of D without ``steps``.
        """
        if value not in get_args(Value):
            raise unknown_name("value of a matrix", value, get_args(Value))
        rows = [row for row in self.evaluations() if row.split == split and steps in (None, row.steps)]
        if len(lengths := {row.steps for row in rows}) > 1:
            raise MetaMapError(f"{self.path}: {split} was measured with D of {sorted(lengths)} steps: choose one")
        tasks = max((row.position for row in rows), default=-1) + 1
        R = np.full((self.last_stage + 1, tasks), np.nan)
        for row in rows:
            R[row.stage, row.position] = np.nan if (number := getattr(row, value)) is None else number
        return R

    def _read(self, table: Table[Any], ending: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return [table.row(row) for row in self._database.execute(f"{table.select} {ending}", values)]
        except MetaMapError as error:
            if str(error).startswith(str(self.path)):
                raise
            raise MetaMapError(f"{self.path}: damaged ({error})") from error


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _claim(path: Path) -> FileLock:
    """Acquire the writer's lock; released by the system when the process ends."""
    lock = FileLock(_lock_path(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise MetaMapError(f"{path.parent}: another process is running this stream; wait for it or stop it") from None
    except OSError as error:
        raise MetaMapError(f"{path.parent}: cannot be written ({error.strerror})") from error
    return lock


def _write_empty(path: Path) -> None:
    """Create the tables in memory and write the file atomically."""
    connection = sqlite3.connect(":memory:")
    for table in _TABLES:
        connection.execute(table.schema)
    for meta in (_Meta("format", _FORMAT), _Meta("schema_version", str(SCHEMA_VERSION))):
        connection.execute(_META.insert, _META.values(meta))
    connection.commit()
    write_bytes(path, connection.serialize())
    connection.close()


def _check_version(database: Database) -> None:
    """Raise an error, and close the file, if it is not a record of this version."""
    try:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        meta = dict(database.execute(_META.select)) if ("meta",) in tables else {}
        if meta.get("format") != _FORMAT:
            raise MetaMapError(f"{database.path}: not the record of a stream")
        if meta.get("schema_version") != str(SCHEMA_VERSION):
            raise MetaMapError(
                f"{database.path}: schema version {meta.get('schema_version')}, this metamap_rl reads {SCHEMA_VERSION}"
            )
    except BaseException:
        database.close()
        raise
