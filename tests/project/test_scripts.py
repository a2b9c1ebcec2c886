"""What scripts make of odd input: a sentence, a dash or null, never a number that means nothing."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metamap_envs.errors import MetaMapError

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def called(script: Any, monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> int:
    """Exit code of a script that is run in this process."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        script("_running").run_script(script(name).main)
    return int(ended.value.code or 0)


# all of them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MetaMapError("no such\nthing"), "one.py: no such thing\n"),
        (FileNotFoundError(2, "No such file", "nope.md"), "one.py: nope.md: No such file\n"),
        (OSError("the disk is gone"), "one.py: the disk is gone\n"),
    ],
)
def test_what_is_wrong_is_one_line(
    script: Any, error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["scripts/one.py"])
    with pytest.raises(SystemExit) as ended:
        script("_running").run_script(main)
    assert (ended.value.code, capsys.readouterr().err) == (2, line)


def test_other_codes_and_errors_are_left_as_they_are(script: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        script("_running").run_script(lambda: 1)
    assert ended.value.code == 1
    with pytest.raises(ZeroDivisionError):
        script("_running").run_script(lambda: 1 // 0)


# each of them, on little ---------------------------------------------------------------------------------------------


def test_speed_of_mapping(script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(script, monkeypatch, "bench_speed", "mapping", "--family", "reacher-goal", "--repeats", 2) == 0
    (family,) = json.loads(capsys.readouterr().out)["families"]
    assert family["weights"] == 4866
    assert family["milliseconds"]["median"] > 0


def test_speed_of_exports(script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="needs metamap-rl[onnx]")
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    assert called(script, monkeypatch, "bench_export", "--family", "reacher-goal", "--repeats", 1) == 0
    (family,) = json.loads(capsys.readouterr().out)["families"]
    assert all(time > 0 for time in family["microseconds"].values())
    assert family["largest_difference"] < 1e-5


def test_loss_of_imported_experts(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--algorithm", "td3", "--family", "reacher-goal", "--steps", 100, "--states", 200, "--updates", 10)
    words += ("--base-steps", 2000, "--rounds", 1)
    assert called(script, monkeypatch, "check_import", *words) == 0
    (expert,) = json.loads(capsys.readouterr().out)["experts"]
    assert expert["method"] == "distil"
    assert expert["loss"]["episodes"] == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["training", "--family", "reacher-goal", "--repeats", "1", "--updates", "1", "--envs", "2"],
        ["startup", "--repeats", "1"],
        ["executors", "--repeats", "1", "--experts", "2", "--timesteps", "4096"],
    ],
    ids=lambda words: words[0],
)
def test_other_speeds(words: list[str]) -> None:
    done = subprocess.run([sys.executable, SCRIPTS / "bench_speed.py", *words], capture_output=True, check=True)
    assert json.loads(done.stdout)["repeats"] == 1


def test_the_house_is_measured(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(script, monkeypatch, "measure_house") == 0
    json.loads(capsys.readouterr().out)
