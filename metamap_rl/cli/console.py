"""Output of commands: results on standard output as tables or JSON, progress on standard error.

Progress is drawn if standard error is a terminal; otherwise long commands log one line a minute. rich is imported when
something is drawn.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metamap_rl.cli import standard_output
from metamap_rl.cli.standard_output import result_stream, write
from metamap_rl.common.durations import duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "LiveView",
    "Progress",
    "live",
    "log",
    "note",
    "plain",
    "print_json",
    "print_table",
    "progress",
    "say",
    "say_document",
]

_WIDE = 100  # columns that a whole progress bar takes
_EVERY = 60.0  # seconds between two lines of a log
_WITHOUT_END = 100_000  # columns; what is piped or redirected has no width
_USUAL_HEIGHT = 25  # lines; rich takes "dumb" terminals for 80 columns wide unless it is told both
_NARROWEST_TEXT = 32  # columns of text below which a table is harder to read than blocks of lines


class Progress(Protocol):
    """A progress bar."""

    def advance(self, amount: float = 1.0) -> None:
        """Add ``amount`` finished units."""

    def describe(self, description: str) -> None:
        """Change the text in front of the bar."""


@contextmanager
def progress(description: str, total: float | None, *, unit: str = "") -> Iterator[Progress]:
    """Show a progress bar with speed and remaining time on standard error during the block.

    Args:
        description: text in front of the bar.
        total: number of units of work; None if unknown, to show only speed and elapsed time.
        unit: name of a unit ("steps"), shown in the speed.
    """
    if not sys.stderr.isatty():
        yield _Logged(description, total, unit)
        return
    with _bar(unit) as bar:
        yield _Drawn(bar, description, total)


class _Logged:
    """Progress without a terminal: a line a minute."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = 0.0
        self._said = time.monotonic()
        self._first: tuple[float, float] | None = None  # time and units of the first advance

    def advance(self, amount: float = 1.0) -> None:
        """Add ``amount`` finished units."""
        self._done += amount
        self._first = self._first or (time.monotonic(), self._done)
        self._say()

    def describe(self, description: str) -> None:
        """Change the text in front of the numbers."""
        self._description = description
        self._say()

    def _say(self) -> None:
        if time.monotonic() - self._said < _EVERY:
            return
        self._said = time.monotonic()
        total = "" if self._total is None else f" of {self._total:,.0f}"
        log(f"{self._description}: {self._done:,.0f}{total} {self._unit}".rstrip() + self._left())

    def _left(self) -> str:
        """How long the rest takes at the mean speed since the first unit, before which there may be other work."""
        if self._total is None or self._first is None or not self._first[1] < self._done < self._total:
            return ""
        began, before = self._first
        seconds = (self._said - began) * (self._total - self._done) / (self._done - before)
        return f", about {duration(seconds)} left"


class _Drawn:
    """One row of a rich progress display."""

    def __init__(self, bar: RichProgress, description: str, total: float | None) -> None:
        self._bar = bar
        self._row = bar.add_task(description, total=total)

    def advance(self, amount: float = 1.0) -> None:
        """Add ``amount`` finished units."""
        self._bar.advance(self._row, amount)

    def describe(self, description: str) -> None:
        """Change the text in front of the bar."""
        self._bar.update(self._row, description=description)


def _bar(unit: str) -> RichProgress:
    """Make an empty display: text, bar, percentage, remaining time; with enough room also speed and elapsed time."""
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

    console = _console(stderr=True)
    wide = console.width >= _WIDE
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=40 if wide else 10),
        TaskProgressColumn(),
        *([Speed(), TimeElapsedColumn(), TextColumn("left")] if wide else []),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class LiveView(Protocol):
    """A few lines that are shown while something runs."""

    def update(self, lines: Sequence[str], is_news: bool) -> None:
        """Show other lines; ``is_news`` tells those that a log must have."""


@contextmanager
def live() -> Iterator[LiveView]:
    """Show lines on standard error during the block; without a terminal only the first line of news, as a log."""
    if not sys.stderr.isatty():
        yield _LoggedView()
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=_console(stderr=True), refresh_per_second=10) as shown:

        class _DrawnView:
            def update(self, lines: Sequence[str], is_news: bool) -> None:
                shown.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))

        yield _DrawnView()


class _LoggedView:
    """Lines without a terminal."""

    def update(self, lines: Sequence[str], is_news: bool) -> None:
        """Print the first line of news."""
        if is_news:
            note(lines[0])


def speed(units_per_second: float | None, unit: str) -> str:
    """A formatted speed: "12,345 steps/s", "0.25 tasks/s", or "" if unknown."""
    if units_per_second is None:
        return ""
    number = f"{units_per_second:,.0f}" if units_per_second >= 10 else f"{units_per_second:.2g}"
    return f"{number} {unit}/s".replace(" /s", "/s")


def note(sentence: str) -> None:
    """Print a message on standard error; a closed standard error is ignored."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"metamap: {sentence}\n")
        sys.stderr.flush()


def log(sentence: str) -> None:
    """Print a message with the time of day on standard error."""
    note(f"{time.strftime('%H:%M')} {sentence}")


def say(*parts: object, end: str = "\n") -> None:
    """Print a part of the result on standard output; `print` itself goes to standard error while a command runs.

    On a terminal, or with COLUMNS set, long lines are wrapped between words and indented to their label.

    Raises:
        OutputError: standard output cannot be written.
    """
    text = " ".join(map(str, parts))
    limit = _limit()
    text = "\n".join(line for long in text.split("\n") for line in _fitted(long, limit))
    write(text + end)


def say_document(text: str) -> None:
    """Print a document (YAML, Markdown) on standard output as it is: its lines are never wrapped.

    Raises:
        OutputError: standard output cannot be written.
    """
    write(text if text.endswith("\n") else text + "\n")


def _limit() -> int:
    """Columns of a line of results."""
    return standard_output.width() if result_stream().isatty() or "COLUMNS" in os.environ else _WITHOUT_END


def _fitted(line: str, width: int) -> list[str]:
    """A line wrapped to ``width`` columns."""
    if len(line) <= width:
        return [line]
    label = re.match(r"\s*\S+\s\s+|\s*", line)
    indent = label.end() if label is not None and label.end() < width // 2 else 0
    first, *others = _words(line[indent:], width - indent)
    return [line[:indent] + first, *(" " * indent + other for other in others)]


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
    least: Sequence[str] = (),
) -> None:
    """Print a table on standard output.

    Names and numbers are never broken. On a narrow terminal the widest text column is wrapped between words, then
    columns are left out with a note; if that is not enough, each row becomes a block of lines. What is piped is as
    wide as its cells, unless COLUMNS is set.

    Args:
        columns: headings.
        rows: cells; the caller formats numbers.
        title: a line above the table.
        right: headings of the columns that are aligned to the right.
        least: headings of optional columns, the least important first.
    """
    from rich.text import Text

    cells = [[str(cell) for cell in row] for row in rows]
    limit = _limit()
    for left_out in range(len(least) + 1):
        kept = [index for index, column in enumerate(columns) if column not in least[:left_out]]
        headings, rest = [columns[index] for index in kept], [[row[index] for index in kept] for row in cells]
        whole = _table(headings, rest, right)
        table = whole if _width(whole) <= limit else _with_wrapped_column(headings, rest, right, limit)
        if table is not None:
            break
    console = _console()
    with console.capture() as text:
        if title is not None:
            console.print(Text(title, style="bold"), soft_wrap=True)
        if table is not None:
            console.print(table, width=_width(table), crop=False, no_wrap=True)
    write(text.get() if table is not None else text.get() + _records(columns, cells, limit))
    if table is not None and left_out:
        say(f"left out for lack of room: {', '.join(least[:left_out])}; a wider terminal or a pipe shows all")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Table:
    """A table of its natural width."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # square brackets are brackets, not markup
    return table


def _width(table: Table) -> int:
    """Natural width of a table."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=_WITHOUT_END)
    return Measurement.get(console, console.options, table).maximum


def _with_wrapped_column(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], width: int
) -> Table | None:
    """The table with its widest column of text broken between words; None if that does not make it narrow enough."""
    texts = [index for index, column in enumerate(columns) if column not in right]
    if not texts or not rows:
        return None
    widest = max(texts, key=lambda index: max(len(row[index]) for row in rows))
    without = [[cell if index != widest else "" for index, cell in enumerate(row)] for row in rows]
    headings = [column if index != widest else "" for index, column in enumerate(columns)]
    room = width - _width(_table(headings, without, right))
    if room < _NARROWEST_TEXT:
        return None
    wrapped = [
        [cell if index != widest else "\n".join(_words(cell, room)) for index, cell in enumerate(row)] for row in rows
    ]
    table = _table(columns, wrapped, right)
    return table if _width(table) <= width else None


def _words(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken between words only."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _records(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Each row as a block of lines "heading  cell"."""
    indent = max(map(len, columns)) + 2
    blocks = []
    for row in rows:
        lines = []
        for column, cell in zip(columns, row, strict=True):
            first, *others = _words(cell, max(width - indent, 1))
            lines += [f"{column:<{indent}}{first}", *(" " * indent + other for other in others)]
        blocks.append("\n".join(line.rstrip() for line in lines) + "\n")
    return "\n".join(blocks)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; `plain` converts its values."""
    write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Convert paths, dataclasses and NumPy values to JSON values; non-finite numbers become null."""
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
    """A rich console for standard output or standard error; the one for results does not truncate."""
    from rich.console import Console

    if stderr:
        return Console(file=sys.stderr, highlight=False)
    return Console(file=result_stream(), highlight=False, width=_WITHOUT_END, height=_USUAL_HEIGHT)
