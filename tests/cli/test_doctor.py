"""`metamap doctor`: what it looks at, and what it says of a broken installation."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from helpers.waiting import HANGS
from metamap_rl.cli import app, diagnosis


def metamap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metamap_rl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS)


def test_doctor_looks_at_everything() -> None:
    done = metamap("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, document
    found = {finding["name"]: finding for finding in document["findings"]}
    assert document["healthy"]
    assert {"python", "mujoco", "torch", "cores", "simulator", "rendering", "ffmpeg", "bundled mappers"} <= set(found)
    assert not [finding for finding in document["findings"] if finding["status"] == "error"]
    assert all(finding["advice"] for finding in document["findings"] if finding["status"] not in ("ok", "absent"))
    assert not [
        finding for finding in document["findings"] if finding["status"] == "ok" and "Error" in finding["detail"]
    ]


def test_doctor_says_what_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = diagnosis.Finding("mujoco", "error", "3.0, but metamap-rl needs >=4.0", "pip install --upgrade mujoco")
    monkeypatch.setattr(diagnosis, "CHECKS", (lambda: iter([broken]),))
    assert app.main(["doctor"]) == 1
    assert "pip install --upgrade mujoco" in capsys.readouterr().out


def test_doctor_survives_what_crashes() -> None:
    crash = diagnosis._ask("import os; os.abort()")
    assert isinstance(crash, diagnosis._Failure)
    assert "signal 6" in crash.reason
    wrong = diagnosis._ask("import no_such_module")
    assert isinstance(wrong, diagnosis._Failure)
    assert "no_such_module" in wrong.reason
    assert diagnosis._ask("print('noise'); answer = [1]") == [1]


def test_doctor_names_the_import_that_fails() -> None:
    assert list(diagnosis._broken_imports(["json", "no_such_module"])) == ["no_such_module"]


def test_doctor_sees_a_folder_it_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    (finding,) = diagnosis.check_working_directory()
    assert (finding.status, "Permission denied" in finding.detail) == ("warning", True)
