"""What is seen of a running stream: the picture on a terminal, lines elsewhere, nothing where JSON is wanted."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import pytest
from rich.console import Console

from helpers.stream_rows import stage_row
from metamap_rl.stream.events import Activity, Scores, StageDone, StageStarted, StreamEvent, StreamStarted
from metamap_rl.stream.picture import frame
from metamap_rl.stream.view import StreamView
from metamap_rl.stream.watched import COLUMNS, Watched, cells, sentence

STARTED = StreamStarted("two-robots", 20, 0, 8_000_000)


def done(stage: int, **changes: object) -> StageDone:
    scores = Scores(before=0.12, current=0.954, old=0.5, held_out=0.25)
    return StageDone(stage_row(stage, **changes), scores, {"probe": 1.0, "expert": 11.5})


def watch(*events: StreamEvent) -> Watched:
    watched = Watched(clock=iter(range(1000)).__next__)
    for event in events:
        watched(event)
    return watched


def picture(watched: Watched, width: int = 140, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(frame(watched, console))
    return captured.get().splitlines()


def lines(*events: StreamEvent, silent: bool = False) -> list[str]:
    file = io.StringIO()
    with StreamView(file, silent=silent) as view:
        for event in events:
            view(event)
    return file.getvalue().splitlines()


# picture ----------------------------------------------------------------------------------------------------------


def test_the_picture_says_where_the_stream_is_and_what_it_does() -> None:
    arrived = StageStarted(2, 20, "cheetah-velocity", "target_velocity=1.25")
    text = "\n".join(picture(watch(STARTED, done(1), arrived, Activity("expert", 30, 100, "return -43.1"))))
    for part in ("two-robots  stage 2 of 20", "cheetah-velocity  target_velocity=1.25", "30%", "return -43.1"):
        assert part in text
    assert re.search(r"about 0:03:5\d left", text)  # 19 stages of 12.5 s


def test_the_picture_has_a_row_per_stage_and_the_sums() -> None:
    text = picture(watch(STARTED, done(1), done(2, decision="served", expert_steps=0, accepted=None)))
    rows = [" ".join(line.split()) for line in text]
    assert "1 reacher-goal trained -10.0 -> -5.0 0.12 -> 0.95 0.50 0.25 2,000 kept 12.5" in rows
    assert "2 reacher-goal served -10.0 -> -5.0 0.12 -> 0.95 0.50 0.25 0 - 12.5" in rows
    assert "expert steps: 2,000 spent, 14,000 saved (88%)" in text
    assert any(line.startswith("memory: 0.00 of 8.00 MB, 4 rollouts") for line in text)


def test_a_stage_that_failed_saved_nothing() -> None:
    assert watch(STARTED, done(1, decision="failed", expert_steps=0, expert_return=None)).steps == (0, 0)


def test_the_picture_before_the_first_stage() -> None:
    text = picture(watch(Activity("base policy", 250, 1000)))
    assert text[0].startswith("preparing the stream")
    assert "25%" in text[1]


def test_a_stream_that_goes_on_shows_what_was_before() -> None:
    past = [(stage_row(stage), Scores(current=0.5)) for stage in (1, 2, 3)]
    watched = watch(StreamStarted("two-robots", 20, 3, 8_000_000, past))
    text = picture(watched)
    assert "stage 4 of 20" in text[0]
    row = ["3", "reacher-goal", "trained", "-10.0", "->", "-5.0", "-", "->", "0.50", "2,000", "kept"]
    assert row in map(str.split, text)  # columns in which there is nothing are left out
    assert watched.steps == (6000, 18000)
    assert watched.seconds_left is None


@pytest.mark.parametrize("height", [14, 24, 60])
def test_the_picture_fits_the_height(height: int) -> None:
    text = picture(watch(STARTED, *(done(stage) for stage in range(1, 20)), Activity("update")), height=height)
    assert len(text) <= height
    assert any(line.split()[:1] == ["19"] for line in text)  # the newest stages are those that stay


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_picture_fits_the_width_by_leaving_columns_out(width: int) -> None:
    text = picture(watch(STARTED, done(1, family="cheetah-direction"), Activity("update")), width=width)
    assert max(map(len, text)) <= width
    assert "…" not in "".join(text)
    assert any(line.split()[:3] == ["1", "cheetah-direction", "trained"] for line in text)


def test_notes_and_square_brackets_are_shown_as_they_are() -> None:
    event = StageDone(stage_row(1, decision="failed"), Scores(), {}, ["diverged: NaN [bold]in[/bold] physics [1]"])
    text = picture(watch(STARTED, event, StageStarted(2, 20, "reacher-goal", "[red]x=1")))
    assert "diverged: NaN [bold]in[/bold] physics [1]" in text
    assert "reacher-goal  [red]x=1" in [line.rstrip() for line in text]


def test_cells_fit_the_columns() -> None:
    assert len(cells(stage_row(1), Scores(), None)) == len(COLUMNS)


# lines ------------------------------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_per_stage_and_per_thing_before() -> None:
    doing = [Activity("probe"), Activity("expert", 1, 2), Activity("expert", 2, 2)]
    arrived = StageStarted(1, 20, "reacher-goal", "x=0")
    shown = lines(
        Activity("experts", 0, 2), Activity("experts", 1, 2), STARTED, arrived, *doing, done(1), arrived, done(2)
    )
    assert shown[:2] == ["experts ...", "two-robots: stages: 20"]
    assert len(shown) == 4
    assert shown[2] == (
        "stage 1 of 20: reacher-goal, trained, score 0.12 -> 0.95, old tasks 0.50, held-out tasks 0.25, "
        "expert steps 2,000 (so far 2,000, saved 6,000), memory 0.00 of 8.00 MB, 12.5 s"
    )


def test_lines_tell_an_update_that_was_undone_and_notes() -> None:
    undone = done(1, accepted=False)
    shown = lines(STARTED, StageDone(undone.row, undone.scores, {}, ["a note"]))
    assert "update undone" in shown[1]
    assert shown[2] == "stage 1: a note"


def test_a_stream_that_goes_on_says_where() -> None:
    assert lines(StreamStarted("two-robots", 20, 3, 1)) == ["two-robots: stages: 20, going on after stage 3"]


def test_silent_is_silent() -> None:
    assert lines(Activity("experts"), STARTED, done(1), silent=True) == []


def test_a_stage_can_be_reported_without_the_beginning() -> None:
    assert sentence(watch(done(7))).startswith("stage 7 of 7: reacher-goal")


# terminals --------------------------------------------------------------------------------------------------------


@contextmanager
def terminal(shown: list[bytes]) -> Iterator[TextIO]:
    """A pseudo-terminal to write to, whose output is collected in ``shown``."""
    ours, theirs = os.openpty()

    def collect() -> None:
        while True:
            try:
                shown.append(os.read(ours, 65536))
            except OSError:  # closed at the other end
                return

    reader = threading.Thread(target=collect)
    reader.start()
    try:
        with open(theirs, "w", encoding="utf-8") as file:
            yield file
    finally:
        reader.join()
        os.close(ours)


def play(events: Sequence[StreamEvent], *, stopping: bool = False) -> str:
    shown: list[bytes] = []
    with terminal(shown) as file, StreamView(file) as view:
        for event in events:
            view(event)
        if stopping:
            view.stopping()
        if view._live is not None:
            view._live.refresh()
    return b"".join(shown).decode()


def test_a_terminal_gets_a_picture_that_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = play([STARTED, done(1), StageStarted(2, 20, "reacher-goal", "x=0"), Activity("update")])
    assert "stage 2 of 20" in text
    assert "\x1b[2K" in text  # lines are erased
    assert "stage 1 of 20: " not in text  # and are not told a second time
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_stopping_shows_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "Ctrl-C again stops at once" not in play([STARTED])
    assert "Ctrl-C again stops at once" in play([STARTED], stopping=True)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = play([STARTED, done(1)])
    assert "stage 1 of 20: reacher-goal" in text
    assert "\x1b" not in text


STOP = """
import sys
from metamap_rl.stream.view import StreamView
with StreamView(silent=True) as view:
    view.stopping()
print("rich" in sys.modules)
"""


def test_stopping_is_reported_even_in_silence_and_lines_need_no_rich() -> None:
    done = subprocess.run([sys.executable, "-c", STOP], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("metamap: stopping when this stage is done and saved")
    assert done.stdout == "False\n"


def test_a_broken_stream_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown: list[bytes] = []
    with pytest.raises(RuntimeError, match="broken"), terminal(shown) as file, StreamView(file) as view:  # noqa: PT012
        view(STARTED)
        raise RuntimeError("broken")
    text = b"".join(shown)
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
