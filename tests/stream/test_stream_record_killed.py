"""The record of a stream, killed at any statement and on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.python import run_python
from helpers.stream_rows import SHA, add_stages, evaluation, stage_row
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.record import Record

KILL = """
import os, signal, sys
from helpers.stream_rows import SHA, evaluation, stage_row
from metamap_rl.stream.record import Record

def write(path, at):
    record = Record.open(path)
    counted = 0
    def die(statement):
        nonlocal counted
        counted += 1
        if counted == at:
            os.kill(os.getpid(), signal.SIGKILL)
    record._database._connection.set_trace_callback(die)
    rows = [evaluation(2, position, 0.5) for position in range(3)]
    record.add_stage(stage_row(2), rows, SHA, {"probe": 1.0}, ["a note"])
    os._exit(0)

for at in range(1, 100):
    child = os.fork()
    if not child:
        write(sys.argv[1], at)
    _, status = os.waitpid(child, 0)
    with Record.open(sys.argv[1], read_only=True) as record:
        row = [record.last_stage, len(record.evaluations(2)), len(record.notes()), record.checkpoint()[0]]
        print(at, os.WTERMSIG(status), *row)
    if not os.WTERMSIG(status):
        break
"""


def test_kill_9_at_any_statement_leaves_the_stage_before_whole(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.0] * 3, [0.5] * 3])
    lines = [[int(word) for word in line.split()] for line in run_python(KILL, path).stdout.splitlines()]
    assert len(lines) > 8  # so many statements does a stage take
    assert all(line[1:] == [9, 1, 0, 0, 1] for line in lines[:-1])
    assert lines[-1][1:] == [0, 2, 3, 1, 2]


FULL = """
import resource, sys
from helpers.stream_rows import SHA, evaluation, stage_row
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.record import Record

record = Record.open(sys.argv[1])
many = [evaluation(2, position, 0.5) for position in range(2000)]
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
try:
    record.add_stage(stage_row(2), many, SHA, {})
except MetaMapError as error:
    print(error)
print(record.last_stage, len(record.evaluations()))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
record.add_stage(stage_row(2), many, SHA, {})
print(record.last_stage, len(record.evaluations()))
"""


def test_a_disk_that_refuses_is_reported_and_the_stages_before_are_kept(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.0], [0.5]])
    told, before, after = run_python(FULL, path).stdout.splitlines()
    assert "record.sqlite: the disk refuses to read or write" in told
    assert (before, after) == ("1 2", "2 2002")


def test_a_full_disk_is_reported_and_the_stages_before_are_kept(record: Record) -> None:
    add_stages(record, [[0.0], [0.5]])
    pages = record._database.execute("PRAGMA page_count")[0][0]
    record._database.execute(f"PRAGMA max_page_count = {pages + 1}")
    many = [evaluation(2, position, 0.5) for position in range(2000)]
    with pytest.raises(MetaMapError, match=r"record\.sqlite: the disk is full; what was recorded before is kept"):
        record.add_stage(stage_row(2), many, SHA, {})
    assert record.last_stage == 1
    record._database.execute("PRAGMA max_page_count = 100000")
    record.add_stage(stage_row(2), many, SHA, {})
    assert len(record.evaluations(2)) == 2000


CREATE = """
import resource, sys
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.record import Record
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
try:
    Record.create(sys.argv[1])
except MetaMapError as error:
    print(error)
"""


def test_no_half_record_is_made_on_a_full_disk(path: Path) -> None:
    assert "cannot be written (File too large)" in run_python(CREATE, path).stdout
    assert {entry.name for entry in path.parent.iterdir()} <= {"record.sqlite.lock"}
    Record.create(path).close()
