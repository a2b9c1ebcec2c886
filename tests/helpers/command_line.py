"""Commands in this process: what a process of its own would do, without its second of imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from metamap_rl.cli import app


def output(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Standard output of a command that succeeds."""
    assert app.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence of a command that exits with code 2."""
    assert app.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("metamap: ")
    assert captured.err.count("\n") == 1
    return captured.err
