"""What the command line prints: tables, long lines, progress, JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.waiting import HANGS
from metamap_rl.cli import console, diagnosis, standard_output, usage
from metamap_rl.cli.commands.evaluate import Evaluate


def metamap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metamap_rl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS)


class Terminal(io.StringIO):
    """A terminal of any width."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


TASKS = [("target_velocity=1.234, goal_angle=2.5", "-113.9", "-22.8 [-23.1, -22.0]"), ("[bold]", "-1,113.9", "2.8")]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_a_table_fits_the_terminal_and_breaks_no_name_and_no_number(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(standard_output, "_result", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    columns = ("task", "base policy", "gap closed at 50")
    console.print_table(columns, TASKS, title="reacher-goal", right=columns[1:])
    text = terminal.getvalue()
    words = [word for row in TASKS for cell in row for word in cell.split()]
    assert all(word in text.split() for word in [*words, "reacher-goal"])
    longest = max(len(column) for column in columns) + 2 + max(map(len, words))  # what cannot be made narrower
    assert max(map(len, text.splitlines())) <= max(width, longest)
    assert all(column in text for column in columns)


def test_a_table_says_which_columns_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(standard_output, "_result", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    columns = ("name", "first", "second", "third")
    console.print_table(
        columns, [("x" * 20, "1" * 12, "2" * 12, "3" * 12)], right=columns[1:], least=("third", "first")
    )
    table, _, said = terminal.getvalue().partition("left out")
    assert "2" * 12 in table
    assert "3" * 12 not in table
    assert "third" in said
    assert max(map(len, table.splitlines())) <= 60


def test_a_table_that_is_piped_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 300
    console.print_table(("name", "number"), [(name, "1")])
    assert name in capsys.readouterr().out


def test_long_lines_go_on_below_their_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(standard_output, "_result", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    console.say("served     the generated policy is served, confidence 0.93: a return of -22.0 is expected")
    console.say("written    " + "y" * 50)
    lines = terminal.getvalue().splitlines()
    assert all(line.startswith(" " * 11) for line in lines[1:3])
    assert max(map(len, lines[:-1])) <= 40
    assert lines[-1] == "written    " + "y" * 50


def test_progress_without_a_terminal_is_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: seconds[0], strftime=lambda _: "14:03"))
    with console.progress("working", 3000, unit="steps") as bar:
        bar.advance()
        bar.describe("still working")
        assert capsys.readouterr() == ("", "")
        for _ in range(9):
            seconds[0] += 10
            bar.advance(100)
    assert capsys.readouterr() == ("", "metamap: 14:03 still working: 601 of 3,000 steps, about 4 min 0 s left\n")


def test_the_time_left_leaves_out_what_comes_before_the_first_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: seconds[0], strftime=lambda _: "14:03"))
    with console.progress("collecting", 4000, unit="updates") as bar:
        seconds[0] += 600
        bar.advance()
        seconds[0] += 60
        bar.advance(999)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "metamap: 14:03 collecting: 1 of 4,000 updates"
    assert second.endswith("1,000 of 4,000 updates, about 3 min 0 s left")


def test_progress_on_a_terminal_shows_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.progress("walking", 200, unit="steps") as bar:
        for _ in range(100):
            bar.advance()
    text = terminal.getvalue()
    assert "walking" in text
    assert "50%" in text
    assert "left" in text
    assert "steps/s" in text


@pytest.mark.parametrize(
    ("rate", "unit", "text"),
    [(None, "steps", ""), (12345.6, "steps", "12,346 steps/s"), (0.254, "tasks", "0.25 tasks/s"), (20.0, "", "20/s")],
)
def test_speed(rate: float | None, unit: str, text: str) -> None:
    assert console.speed(rate, unit) == text


def test_json_holds_numpy_paths_and_dataclasses(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json(
        {
            "array": np.arange(3),
            "scalar": np.float32(0.5),
            "nan": [float("nan"), np.float64("inf")],
            "path": Path("a/b"),
            "finding": diagnosis.Finding("x", "ok", "y"),
            3: (True, None),
        }
    )
    assert json.loads(capsys.readouterr().out) == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "nan": [None, None],
        "path": "a/b",
        "finding": {"name": "x", "status": "ok", "detail": "y", "advice": ""},
        "3": [True, None],
    }


def test_tables_keep_brackets_and_are_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("name", "range"), [("x" * 100, "[0, 1]"), ("y", "[red]")], title="title", right=("range",))
    text = capsys.readouterr().out
    assert "x" * 100 + "   [0, 1]" in text
    assert "[red]" in text


def test_a_word_that_is_left_out_is_at_its_default() -> None:
    command = usage.parse(Evaluate, ["--zoo", "z", "--out", "o"], program="metamap evaluate")
    assert command.config is None
