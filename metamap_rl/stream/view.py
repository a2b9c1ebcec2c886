"""Console output of a running stream: a live display on a terminal, one line per stage elsewhere.

Both are written to standard error from one `Watched`, updated by events. rich is imported only on a terminal.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from metamap_rl.stream.events import Activity, StageDone, StreamEvent, StreamStarted
from metamap_rl.stream.watched import STOPPING, Watched, sentence

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["StreamView"]


class StreamView:
    """Displays a stream during the ``with`` block; pass it as ``on_event``.

    Args:
        file: output; default standard error. A terminal gets a live display, anything else lines.
        silent: no output, for JSON only; errors and Ctrl-C are still reported.
    """

    def __init__(self, file: TextIO | None = None, *, silent: bool = False) -> None:
        self.watched = Watched()
        self._file = sys.stderr if file is None else file
        self._silent = silent
        self._live: Live | None = None
        self._said: str | None = None

    def __enter__(self) -> StreamView:
        if self._file.isatty() and not self._silent:
            from metamap_rl.stream.picture import start_live

            self._live = start_live(self._file, self.watched)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: StreamEvent) -> None:
        """Display an event."""
        self.watched(event)
        if self._live is None and not self._silent:
            for line in self._lines(event):
                print(line, file=self._file, flush=True)

    def stopping(self) -> None:
        """Report that the run stops after the current stage; safe to call in a signal handler."""
        self.watched.stopping = True
        if self._live is None:
            # Not `print`, which is not reentrant: the signal may interrupt one.
            os.write(self._file.fileno(), f"metamap: {STOPPING}\n".encode())

    def _lines(self, event: StreamEvent) -> list[str]:
        """Lines for an event without a terminal: one per stage, and one per activity before the first."""
        if isinstance(event, StreamStarted):
            self._said = None
            after = f", going on after stage {event.done}" if event.done else ""
            return [f"{event.name}: stages: {event.total}{after}"]
        if isinstance(event, Activity):
            new = self.watched.stage is None and event.what != self._said
            self._said = event.what
            return [f"{event.what} ..."] if new else []
        if isinstance(event, StageDone):
            self._said = None
            notes = [f"stage {event.row.stage}: {note}" for note in event.notes]
            return [sentence(self.watched), *notes]
        return []
