"""Live display of a running stream on a terminal, with rich.

Drawn in a thread of rich while events change the state, so attributes that may be None are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metamap_rl.stream.events import Activity, Scores
from metamap_rl.stream.record import StageRow
from metamap_rl.stream.watched import COLUMNS, STOPPING, Watched, cells, duration, megabytes

__all__ = ["frame", "start_live"]

_WORDS = ("family", "decision", "update")
_LEAST_NEEDED = ("update", "return", "seconds", "held-out", "old", "expert steps")
_NOTHING = ("-", "- -> -")
_BETWEEN_COLUMNS = 3
_FRAMES_PER_SECOND = 4
_MOST_ROWS = 12
_LINES_AROUND_ROWS = 12
_BAR_WIDTH = 30


def start_live(file: TextIO, watched: Watched) -> Live | None:
    """Draw frames until `stop`, in a thread of rich; None on a terminal without cursor control."""
    console = Console(file=file, highlight=False)
    if console.is_dumb_terminal:
        return None
    live = Live(
        get_renderable=lambda: frame(watched, console),
        console=console,
        refresh_per_second=_FRAMES_PER_SECOND,
        transient=True,
    )
    live.start()
    return live


def frame(watched: Watched, console: Console) -> RenderableType:
    """Draw the current state, fitted to the console's height."""
    parts: list[RenderableType] = [_heading(watched), _now(watched)]
    if rows := watched.rows[-_rows_that_fit(console) :]:
        parts += ["", _table(rows, console.width)]
    parts += ["", _steps(watched), _memory(watched), *(_styled(note, "yellow") for note in watched.notes)]
    running = "Ctrl-C finishes this stage and saves" if watched.stream is not None else "Ctrl-C stops"
    hint = STOPPING if watched.stopping else running
    parts.append(_styled(hint, "bold yellow" if watched.stopping else "dim"))
    return Group(*parts)


def _rows_that_fit(console: Console) -> int:
    return max(1, min(_MOST_ROWS, console.height - _LINES_AROUND_ROWS))


def _heading(watched: Watched) -> RenderableType:
    """Name of the stream, progress, time elapsed and remaining."""
    elapsed = duration(watched.clock() - watched.began)
    if (stream := watched.stream) is None:
        return _styled(f"preparing the stream  {elapsed}", "bold")
    total, left = stream.total, watched.seconds_left
    stage = f"stage {min(watched.done + 1, total)} of {total}"
    times = elapsed if left is None else f"{elapsed}, about {duration(left)} left"
    return _line(_styled(f"{stream.name}  {stage}", "bold"), _bar(watched.done, total), times)


def _now(watched: Watched) -> RenderableType:
    """Current task and activity."""
    lines: list[RenderableType] = []
    if (stage := watched.stage) is not None:
        lines.append(_line(_styled(stage.family, "cyan"), stage.task))
    doing = watched.doing or Activity("...")
    words: list[str | ProgressBar] = [doing.what]
    if doing.total:
        words += [_bar(doing.done, doing.total), f"{doing.done / doing.total:.0%}"]
    words += [doing.detail] if doing.detail else []
    lines.append(_line(*words, duration(watched.clock() - watched.doing_since)))
    return Group(*lines)


def _table(rows: Sequence[tuple[StageRow, Scores, float | None]], width: int) -> RenderableType:
    texts = [cells(*row) for row in rows]
    shown = _columns_that_fit(texts, width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index in shown:
        table.add_column(COLUMNS[index], justify="left" if COLUMNS[index] in _WORDS else "right", no_wrap=True)
    styles = {"failed": "red", "served": "green"}
    for (row, _, _), text in zip(rows, texts, strict=True):
        table.add_row(*(escape(text[index]) for index in shown), style=styles.get(row.decision))
    return table


def _columns_that_fit(texts: Sequence[Sequence[str]], width: int) -> list[int]:
    """Indices of the non-empty columns that fit the width; the least important are dropped first."""
    shown = [index for index in range(len(COLUMNS)) if any(text[index] not in _NOTHING for text in texts)]
    widths = [max(map(len, column)) + _BETWEEN_COLUMNS for column in zip(COLUMNS, *texts, strict=True)]
    for name in _LEAST_NEEDED:
        if sum(widths[index] for index in shown) - _BETWEEN_COLUMNS <= width:
            break
        shown = [index for index in shown if COLUMNS[index] != name]
    return shown


def _steps(watched: Watched) -> RenderableType:
    """Expert steps spent and saved."""
    spent, saved = watched.steps
    share = f" ({saved / (spent + saved):.0%})" if spent + saved > 0 else ""
    return _styled(f"expert steps: {spent:,} spent, {saved:,} saved{share}")


def _memory(watched: Watched) -> RenderableType:
    """Memory used and budget."""
    stream, rows = watched.stream, watched.rows
    if stream is None or not rows:
        return _styled("memory: empty")
    row, budget = rows[-1][0], stream.memory_budget
    text = f"memory: {megabytes(row.memory_bytes)} of {megabytes(budget)} MB, {row.memory_items} rollouts"
    return _line(text, _bar(min(row.memory_bytes, budget), budget))


def _line(*parts: str | Text | ProgressBar) -> RenderableType:
    """Parts side by side; on narrow terminals bars are shortened before text."""
    grid = Table.grid(padding=(0, 2))
    shown = [_styled(part) if isinstance(part, str) else part for part in parts]
    for part in shown:
        if isinstance(part, Text):
            grid.add_column(no_wrap=True, min_width=part.cell_len)
        else:
            grid.add_column(max_width=_BAR_WIDTH)
    grid.add_row(*shown)
    return grid


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=total, completed=done)


def _styled(text: str, style: str = "") -> Text:
    """Text with rich's markup escaped."""
    return Text(text, style=style)
