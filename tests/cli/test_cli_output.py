"""What the command line prints, and where: a result on standard output, and nothing but that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.waiting import HANGS
from metamap_rl.cli import standard_output
from metamap_rl.cli.console import plain

METAMAP = [sys.executable, "-m", "metamap_rl.cli"]
NOISY = """
import atexit, multiprocessing, os, subprocess, sys, threading, warnings
import gymnasium as gym

def say(where):
    print("noise of Python", where)
    os.write(1, b"noise of C\\n")
    sys.__stdout__.write("noise that waits in a buffer")
    subprocess.run(["echo", "noise of a child"])

class Noisy(gym.Wrapper):
    def __init__(self):
        say("while it is made")
        warnings.warn("noise of a warning")
        super().__init__(gym.make("Reacher-v5"))
    def reset(self, **arguments):
        print("noise of a reset")
        return super().reset(**arguments)
    def step(self, action):
        threading.Thread(target=print, args=["noise of a thread"]).start()
        return super().step(action)
    def __del__(self):
        print("noise of the end")

class Cut(Noisy):
    \"\"\"As reacher-goal's environment: 8 numbers.\"\"\"
    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Box(-float("inf"), float("inf"), (8,))
    def reset(self, **arguments):
        seen, info = super().reset(**arguments)
        return seen[:8], info
    def step(self, action):
        seen, *rest = super().step(action)
        return seen[:8], *rest

say("while it is imported")
atexit.register(say, "at exit")
gym.register("Noisy-v0", entry_point=Cut, max_episode_steps=5)
gym.register("Broken-v0", entry_point=Noisy, max_episode_steps=5)
"""


def metamap(*arguments: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command; ``shell`` is added to the line, for redirections."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", *METAMAP, *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=HANGS, env={**os.environ, **environment})


@pytest.mark.parametrize("as_json", [True, False])
def test_whatever_an_environment_prints_only_the_result_is_on_standard_output(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    flags = ["--env", "noisy:Noisy-v0", "--episodes", "1", "--steps", "3", *(["--json"] if as_json else [])]
    done = metamap("adapt", "reacher-goal", *flags, PYTHONPATH=str(tmp_path), PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    assert b"noise" not in done.stdout
    assert done.stderr.count(b"noise of C") == 3
    if as_json:
        assert json.loads(done.stdout)["steps"] == 3
    assert not list(folder.iterdir()), "nothing is left in the working directory"


def test_an_error_leaves_standard_output_empty(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    done = metamap(
        "adapt", "reacher-goal", "--env", "noisy:Broken-v0", "--json", PYTHONPATH=str(tmp_path), PYTHONWARNINGS="ignore"
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert sum(line.startswith(b"metamap: ") for line in done.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["adapt", "--help"], ["runs", "list", ".", "--json"]])
def test_a_full_disk_is_a_sentence(arguments: list[str]) -> None:
    done = metamap(*arguments, shell="> /dev/full")
    assert done.returncode == 2
    assert done.stderr == b"metamap: standard output cannot be written (No space left on device)\n"


def test_a_closed_standard_output_is_a_sentence() -> None:
    done = metamap("--version", shell=">&-")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"standard output is closed" in done.stderr


@pytest.mark.parametrize("shell", ["2>/dev/full", "<&- 2>&-"])
def test_closed_or_full_other_streams_do_no_harm(shell: str) -> None:
    done = metamap("--version", shell=shell)
    assert (done.returncode, done.stdout[:8], done.stderr) == (0, b"metamap ", b"")
    wrong = metamap("families", "--oops", shell=shell)
    assert (wrong.returncode, wrong.stdout) == (2, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["runs", "list", "--help"]])
def test_a_reader_that_leaves_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([*METAMAP, *arguments], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, complaint = process.communicate(timeout=HANGS)
    assert (process.returncode, complaint) == (141, b"")


def test_within_a_python_process_streams_are_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    before, outer = sys.stdout, os.fstat(1)
    with standard_output.set_apart(for_good=False):
        os.write(1, b"from C\n")
        sys.stdout.write("from Python\n")
        standard_output.write("the result\n")
    assert sys.stdout is before
    assert (os.fstat(1).st_dev, os.fstat(1).st_ino) == (outer.st_dev, outer.st_ino)
    sys.stdout.write("after\n")
    out, err = capfd.readouterr()
    assert out == "the result\nafter\n"
    assert sorted(err.split("\n")) == ["", "from C", "from Python"]


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"LANG": "C", "LC_ALL": "C"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        {"PYTHONIOENCODING": "latin-1", "TERM": "dumb"},
    ],
    ids=str,
)
def test_any_encoding_prints_any_name(environment: dict[str, str], tmp_path: Path) -> None:
    wanted = os.fsencode(tmp_path) + b"/caf\xe9 \xe2\x89\xa5 1"
    os.makedirs(wanted)
    done = subprocess.run(
        [*METAMAP, "runs", "list", wanted], capture_output=True, check=False, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"no cells" in done.stdout.replace(b"\0", b"")


def test_what_is_not_a_number_is_null() -> None:
    assert plain({"a": [float("nan"), float("inf"), 1.5], "b": -float("inf")}) == {"a": [None, None, 1.5], "b": None}
