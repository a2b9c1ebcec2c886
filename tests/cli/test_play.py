"""`metamap play` on the command line: what it refuses, and its address."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from metamap_rl.cli import main


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["cheeta-actuators"], "cheetah-actuators"),
        (["--port", "70000"], "65535"),
        (["--viewer", "studios"], "studio"),
        (["--parameters", "sign_bshim=1"], "sign_bshin"),
        (["--set", "blent=3"], "blend"),
        (["--replay", "none.html"], "none.html"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_bad_input_is_one_sentence(flags: list[str], word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["play", "--no-open", *flags]) == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    assert word in said
    assert len(said.splitlines()) == 1


def test_it_serves_a_replay_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "replay.html").write_text('<meta name="generator" content="metamap play">')
    words = [sys.executable, "-m", "metamap_rl.cli", "play", "--replay", str(tmp_path), "--port", "0"]
    with subprocess.Popen([*words, "--no-open", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = json.loads("".join(iter(lambda: process.stdout.readline().decode(), "}\n")) + "}")["url"]
        with urlopen(url) as answer:
            assert b"metamap play" in answer.read()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 2
    assert b"closed" in said
    assert b"Traceback" not in said


def test_a_taken_port_is_refused_before_the_mapper_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metamap_rl.adaptation.bundled.find_mapper", lambda name: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["play", "--port", port, "--no-open"]) == 2
    assert port in capsys.readouterr().err
