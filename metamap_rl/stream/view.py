"""What a person sees of a running stream: a picture that moves on a terminal, one line per stage elsewhere.

Both are drawn on standard error from one `Watched`, which follows the events. rich is imported only where there is a
terminal.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from metamap_rl.stream.events import Doing, StageDone, StreamEvent, StreamStarted
from metamap_rl.stream.watched import STOPPING, Watched, sentence

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["StreamView"]


class StreamView:
    """Shows a stream while the ``with`` block runs; pass it as ``on_event``.

    Args:
        file: where to; standard error by default. A terminal gets a moving picture, anything else lines.
        silent: show nothing, for whoever wants JSON only; errors and Ctrl-C are told all the same.
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
        """Show an event."""
        self.watched(event)
        if self._live is None and not self._silent:
            for line in self._lines(event):
                print(line, file=self._file, flush=True)

    def stopping(self) -> None:
        """Tell that the run ends after the running stage; safe to call in a signal handler."""
        self.watched.stopping = True
        if self._live is None:
            # Not `print`: the signal may have come in the middle of one, which does not let another in.
            os.write(self._file.fileno(), f"metamap: {STOPPING}\n".encode())

    def _lines(self, event: StreamEvent) -> list[str]:
        """What an event is worth without a terminal: a line per stage, and one per thing done before the first."""
        if isinstance(event, StreamStarted):
            self._said = None
            after = f", going on after stage {event.done}" if event.done else ""
            return [f"{event.name}: stages: {event.total}{after}"]
        if isinstance(event, Doing):
            new = self.watched.stage is None and event.what != self._said
            self._said = event.what
            return [f"{event.what} ..."] if new else []
        if isinstance(event, StageDone):
            self._said = None
            notes = [f"stage {event.row.stage}: {note}" for note in event.notes]
            return [sentence(self.watched), *notes]
        return []
