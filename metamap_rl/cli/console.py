"""How commands talk: results on standard output as tables or JSON, progress on standard error.

Progress is drawn when standard error is a terminal; otherwise a line a minute tells a log that something goes on, and
short commands stay silent. rich is imported when something is drawn.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metamap_rl.cli.standard_output import result_stream, write

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.text import Text

__all__ = ["Progress", "note", "plain", "print_json", "print_table", "progress", "say"]

_EVERY = 60.0  # seconds between two lines of a log
_WIDTH_OF_PIPES = 240  # columns; a table that is piped or redirected must not be cut to 80


class Progress(Protocol):
    """A running bar."""

    def advance(self, amount: float = 1.0) -> None:
        """Count ``amount`` more units as done."""

    def describe(self, description: str) -> None:
        """Change the words in front of the bar."""


@contextmanager
def progress(description: str, total: float | None, *, unit: str = "") -> Iterator[Progress]:
    """Show a bar with the share done, the speed and the time left, on standard error, while the block runs.

    Args:
        description: what is going on.
        total: number of units of work; None if it is not known, then only speed and time passed are shown.
        unit: what is counted ("steps"), shown in the speed.
    """
    if not sys.stderr.isatty():
        yield _Logged(description, total, unit)
        return
    with _bar(unit) as bar:
        yield _Drawn(bar, description, total)


class _Logged:
    """Progress that nobody watches: a line each minute for who reads the log."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = 0.0
        self._said = time.monotonic()

    def advance(self, amount: float = 1.0) -> None:
        """Count ``amount`` more units as done."""
        self._done += amount
        self._say()

    def describe(self, description: str) -> None:
        """Change the words in front of the numbers."""
        self._description = description
        self._say()

    def _say(self) -> None:
        if time.monotonic() - self._said < _EVERY:
            return
        self._said = time.monotonic()
        total = "" if self._total is None else f" of {self._total:,.0f}"
        note(f"{self._description}: {self._done:,.0f}{total} {self._unit}".rstrip())


class _Drawn:
    """One row of a rich progress display."""

    def __init__(self, bar: RichProgress, description: str, total: float | None) -> None:
        self._bar = bar
        self._row = bar.add_task(description, total=total)

    def advance(self, amount: float = 1.0) -> None:
        """Count ``amount`` more units as done."""
        self._bar.advance(self._row, amount)

    def describe(self, description: str) -> None:
        """Change the words in front of the bar."""
        self._bar.update(self._row, description=description)


def _bar(unit: str) -> RichProgress:
    """Make an empty display: words, bar, share, speed, time passed, time left."""
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(speed(task.finished_speed or task.speed, unit), style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_console(stderr=True),
        transient=True,
    )


def speed(units_per_second: float | None, unit: str) -> str:
    """A speed for people: "12,345 steps/s", "0.25 tasks/s", or "" while it is not known."""
    if units_per_second is None:
        return ""
    number = f"{units_per_second:,.0f}" if units_per_second >= 10 else f"{units_per_second:.2g}"
    return f"{number} {unit}/s".replace(" /s", "/s")


def note(sentence: str) -> None:
    """Tell the user something besides the result, on standard error; if nobody reads that, work goes on."""
    with contextlib.suppress(OSError):
        print(f"metamap: {sentence}", file=sys.stderr, flush=True)


def say(*parts: object, end: str = "\n") -> None:
    """Print a part of the result on standard output. As `print`, which prints on standard error while a command runs.

    Raises:
        OutputError: it cannot be written.
    """
    write(" ".join(map(str, parts)) + end)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
) -> None:
    """Print a table on standard output.

    Args:
        columns: headings.
        rows: cells; numbers should be formatted by the caller, who knows how many digits mean something.
        title: a line above the table.
        right: headings of the columns that are aligned to the right.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    console = _console()
    with console.capture() as text:
        console.print(table)
    write(text.get())


def _escaped(cell: object) -> str:
    """A cell's text, in which square brackets are brackets and not rich's markup."""
    from rich.markup import escape

    return escape(str(cell))


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; see `plain` for what it may hold."""
    say(json.dumps(plain(document), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Turn paths, dataclasses and numpy values into what JSON knows; numbers that are not finite become null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return plain(value.tolist())
    return value


def _console(*, stderr: bool = False) -> Console:
    """A console for one of the two streams, as they are at this moment."""
    from rich.console import Console

    stream = sys.stderr if stderr else result_stream()
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _WIDTH_OF_PIPES)
