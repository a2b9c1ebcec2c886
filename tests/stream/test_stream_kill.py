"""A stream that is killed again and again, at any moment, ends in the record of one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.tiny_stream import tiny_config
from helpers.waiting import HANGS, wait_for
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs import MetaMapError
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.record import Record
from metamap_rl.stream.run import open_run, resume, start

IN_THIS_PROCESS = LocalExecutor(1)

WORKER = """
import sys, time
from metamap_rl.stream.events import StageStarted
from metamap_rl.stream.run import resume

def halt(event):
    if isinstance(event, StageStarted) and event.stage == int(sys.argv[2]):
        time.sleep(float(sys.argv[3]))

resume(sys.argv[1], num_threads=1, on_event=halt)
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert cache that the tests of this module fill and share."""
    return tmp_path_factory.mktemp("kill") / "zoo"


def begun(config: StreamConfig, out: Path, zoo: Path, stages: int) -> None:
    """Make a run that was stopped on request after so many stages."""
    asked = iter([False] * stages + [True])
    run = start(config, out, zoo=zoo, executor=IN_THIS_PROCESS, num_threads=1, stop_requested=lambda: next(asked))
    run.record.close()


def spawn(directory: Path, stages: int) -> subprocess.Popen[bytes]:
    """Resume a run in a process of its own, which stands still before the last of so many stages until killed."""
    with (directory.parent / "stderr.txt").open("ab") as complaints:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), str(stages), str(HANGS)], stderr=complaints
        )


def kill_at(process: subprocess.Popen[bytes], directory: Path, stage: int, delay: float) -> bool:
    """Kill a while after the record has reached a stage; False if the process was through before."""

    def reached() -> bool:
        with Record.open(directory / "record.sqlite", read_only=True) as record:
            return record.last_stage >= stage

    wait_for(lambda: process.poll() is not None or reached())
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_and_resume(tmp_path: Path, zoo: Path, stages: int, delays: list[float]) -> None:
    config = tiny_config(stream__tasks=stages)
    whole = start(config, tmp_path / "whole", zoo=zoo, executor=IN_THIS_PROCESS, num_threads=1)
    part = tmp_path / "part"
    begun(config, part, zoo, 0)
    for delay in delays:
        with Record.open(part / "record.sqlite", read_only=True) as record:
            reached = record.last_stage
        process = spawn(part, stages)
        killed = kill_at(process, part, min(reached + (delay < 0), stages - 1), abs(delay))
        assert killed, (tmp_path / "stderr.txt").read_text()
        with Record.open(part / "record.sqlite", read_only=True) as record:
            assert reached <= record.last_stage < stages, "a finished stage is never lost"
            assert [row.stage for row in record.stages()] == list(range(1, record.last_stage + 1))
    assert resume(part, num_threads=1).record.comparable() == whole.record.comparable()
    names = {path.name for path in (part / "artifacts").iterdir()}
    assert names == {path.name for path in (tmp_path / "whole" / "artifacts").iterdir()}, "no half-written files"


@pytest.mark.slow
def test_killed_and_resumed(zoo: Path, tmp_path: Path) -> None:
    # Negative: so long after one more stage is recorded; positive: so long after the process was started.
    kill_and_resume(tmp_path, zoo, 4, [-0.02, -0.2])


@pytest.mark.slow
def test_killed_and_resumed_at_full_length(zoo: Path, tmp_path: Path) -> None:
    kill_and_resume(
        tmp_path, zoo, 20, [-0.001, -0.01, -0.03, -0.1, -0.2, -0.3, -0.4, -0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    )


def test_a_stream_is_run_by_one_process_at_a_time(zoo: Path, tmp_path: Path) -> None:
    begun(tiny_config(), tmp_path / "run", zoo, 0)
    with (
        Record.open(tmp_path / "run" / "record.sqlite"),
        pytest.raises(MetaMapError, match="another process is running this stream"),
    ):
        resume(tmp_path / "run")
    assert not open_run(tmp_path / "run").finished, "looking at it is always possible"


FULL_DISK = """
import resource, sys
from metamap_envs import MetaMapError
from metamap_rl.stream.run import resume
import torch, mujoco, stable_baselines3  # what writes files while it is imported has done so
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    resume(sys.argv[1], num_threads=1)
except MetaMapError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_what_is_finished_kept(zoo: Path, tmp_path: Path) -> None:
    config = tiny_config(experts__start="phi-0")
    whole = start(config, tmp_path / "whole", zoo=zoo, executor=IN_THIS_PROCESS, num_threads=1)
    begun(config, tmp_path / "run", zoo, 1)
    # No file may grow beyond 8 kB: what a disk that is full does to the next checkpoint.
    full = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "run"), "8192"],
        capture_output=True,
        text=True,
        env={**os.environ, "MUJOCO_GL": "disable"},
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "cannot be written" in full.stdout or "the disk refuses" in full.stdout, full.stdout
    assert len(full.stdout.splitlines()) == 1
    with Record.open(tmp_path / "run" / "record.sqlite", read_only=True) as record:
        assert record.last_stage == 1
    assert resume(tmp_path / "run", num_threads=1).record.comparable() == whole.record.comparable()
