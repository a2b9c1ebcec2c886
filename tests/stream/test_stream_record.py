"""The record of a stream: whole stages or nothing, one writer, and errors that a person understands."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.python import run_python
from helpers.stream_rows import SHA, add_stages, evaluation, stage_row
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.events import Scores
from metamap_rl.stream.record import SCHEMA_VERSION, Record

# what goes in comes out ----------------------------------------------------------------------------------------


def test_a_stage_comes_back_as_it_was(record: Record) -> None:
    row = stage_row(1, accepted=None, confidence=0.1 + 0.2, boundary=False, detail="ünusual")
    rows = [evaluation(1, 0, 1 / 3), evaluation(1, 1, None), evaluation(1, 0, 0.5, split="held-out")]
    record.add_stage(row, rows, SHA, {"probe": 0.25, "map": 1e-9}, ["first", "second"])
    assert record.stages() == [row]
    assert record.evaluations() == [rows[2], *rows[:2]]
    assert record.timings() == {1: {"probe": 0.25, "map": 1e-9}}
    assert record.notes() == {1: ("first", "second")}
    assert record.checkpoint() == (1, SHA)


def test_it_is_there_after_closing_and_opening(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.0, 0.1], [0.5, 0.2], [0.4, 0.9]])
        before = record.comparable()
    with Record.open(path) as record:
        assert record.comparable() == before
        record.add_stage(stage_row(3), [], SHA, {})
        assert record.last_stage == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(number=st.floats(allow_nan=False, allow_infinity=False), steps=st.integers(0, 2**62), text=st.text())
def test_numbers_come_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, number: float, steps: int, text: str
) -> None:
    text = text.replace("\0", "").encode(errors="ignore").decode()
    row = stage_row(1, base_return=number, expert_steps=steps, task={"parameters": {"a": number}}, detail=text)
    with Record.create(tmp_path_factory.mktemp("r") / "record.sqlite") as record:
        record.add_stage(row, [], SHA, {})
        assert record.stages() == [row]


def test_numpy_numbers_are_numbers(record: Record) -> None:
    row = stage_row(1, expert_steps=np.int64(7), accepted=np.bool_(True), base_return=np.float32(0.5))
    record.add_stage(row, [], SHA, {"probe": np.float64(1.0)})
    assert json.dumps(record.comparable()["stages"][0]["expert_steps"]) == "7"
    assert record.stages()[0].accepted is True


def test_an_empty_record(record: Record) -> None:
    assert (record.last_stage, record.checkpoint(), record.stages(), record.entries()) == (0, None, [], [])
    assert record.matrix("stream").shape == (1, 0)


def test_comparable_is_json_and_leaves_out_what_differs_between_runs(tmp_path: Path) -> None:
    documents = []
    for seconds in (1.0, 2.0):
        with Record.create(tmp_path / f"{seconds}.sqlite") as record:
            record.log(f"took {seconds}")
            record.add_evaluations([evaluation(0, 0, 0.5)])
            record.add_stage(stage_row(1), [evaluation(1, 0, 0.5)], SHA, {"probe": seconds}, ["a note"])
            documents.append(json.dumps(record.comparable(), allow_nan=False))
    assert documents[0] == documents[1]


@pytest.mark.parametrize("change", [{"score": 0.6}, {"sha": "cd" * 32}, {"note": "other"}, {"detail": "other"}])
def test_comparable_tells_runs_apart(tmp_path: Path, change: dict[str, Any]) -> None:
    documents = []
    for number, values in enumerate(({}, change)):
        with Record.create(tmp_path / f"{number}.sqlite") as record:
            record.add_stage(
                stage_row(1, detail=values.get("detail", "")),
                [evaluation(1, 0, values.get("score", 0.5))],
                values.get("sha", SHA),
                {},
                [values.get("note", "a note")],
            )
            documents.append(record.comparable())
    assert documents[0] != documents[1]


def test_the_log_keeps_order_and_time(record: Record) -> None:
    record.log("started")
    record.log("stopped")
    entries = record.entries()
    assert [entry.text for entry in entries] == ["started", "stopped"]
    assert entries[0].time <= entries[1].time


# matrices ------------------------------------------------------------------------------------------------------


def test_matrix_has_rows_of_stages_and_columns_of_tasks(record: Record) -> None:
    scores = [[0.0, 0.1, 0.2], [0.9, 0.2, 0.3], [0.8, 0.95, 0.4], [0.7, 0.9, 1.0]]
    add_stages(record, scores, held_out=[[0.0, 0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 0.7]])
    np.testing.assert_array_equal(record.matrix("stream"), scores)
    np.testing.assert_array_equal(record.matrix("held-out")[:, 1], [0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(record.matrix("stream", value="mean_return")[3], [-6.5, -5.5, -5.0])


def test_matrix_is_nan_where_nothing_was_measured(record: Record) -> None:
    record.add_evaluations([evaluation(0, 0, 0.1), evaluation(0, 2, None)])
    record.add_stage(stage_row(1), [], SHA, {})
    record.add_stage(stage_row(2), [evaluation(2, 1, 0.5)], SHA, {})
    R = record.matrix("stream")
    np.testing.assert_array_equal(R, [[0.1, math.nan, math.nan], [math.nan] * 3, [math.nan, 0.5, math.nan]])


def test_matrix_of_several_lengths_of_d_needs_one_of_them(record: Record) -> None:
    record.add_evaluations([evaluation(0, 0, 0.1), evaluation(0, 0, 0.3, steps=200)])
    with pytest.raises(MetaMapError, match=r"\[50, 200\] steps"):
        record.matrix("stream")
    assert record.matrix("stream", steps=200)[0, 0] == 0.3
    with pytest.raises(MetaMapError, match="unknown value of a matrix 'scores': did you mean 'score'"):
        record.matrix("stream", steps=200, value="scores")  # type: ignore[arg-type]


def test_scores_of_a_stage(record: Record) -> None:
    scores = [[0.0, 0.1, 0.2], [0.9, 0.2, 0.3], [0.8, 0.95, 0.4], [0.6, 0.8, 1.0]]
    add_stages(record, scores, held_out=[[0.0, 0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 0.8]])
    assert Scores.of(record, 1) == Scores(before=0.0, current=0.9, old=None, held_out=0.25)
    assert Scores.of(record, 3) == Scores(before=0.4, current=1.0, old=0.7, held_out=0.7)


# refused -------------------------------------------------------------------------------------------------------


def test_stages_come_in_order(record: Record) -> None:
    for stage in (0, 2):
        with pytest.raises(MetaMapError, match=f"expected stage 1, got {stage}"):
            record.add_stage(stage_row(stage), [], SHA, {})
    record.add_stage(stage_row(1), [], SHA, {})
    with pytest.raises(MetaMapError, match="expected stage 2, got 1"):
        record.add_stage(stage_row(1), [], SHA, {})


def test_an_evaluation_of_another_stage_is_refused(record: Record) -> None:
    with pytest.raises(MetaMapError, match="an evaluation of stage 2 in stage 1"):
        record.add_stage(stage_row(1), [evaluation(2, 0, 0.1)], SHA, {})


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (stage_row(1, base_return=math.nan), []),
        (stage_row(1, validation_after=math.inf), []),
        (stage_row(1), [evaluation(1, 0, 0.1), evaluation(1, 1, math.nan)]),
    ],
)
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_kept(record: Record, row: Any, rows: Any) -> None:
    with pytest.raises(MetaMapError, match=r"expected a finite number, got (nan|inf)"):
        record.add_stage(row, rows, SHA, {})
    assert (record.last_stage, record.evaluations()) == (0, [])


def test_an_unknown_decision_is_refused() -> None:
    with pytest.raises(MetaMapError, match="unknown decision 'serve': did you mean 'served'"):
        stage_row(1, decision="serve")


def test_a_failure_in_the_middle_leaves_the_stage_before(record: Record) -> None:
    add_stages(record, [[0.0], [0.5]])
    twice = [evaluation(2, 0, 0.1), evaluation(2, 0, 0.2)]
    with pytest.raises(MetaMapError, match="UNIQUE"):
        record.add_stage(stage_row(2), twice, SHA, {}, ["a note"])
    assert (record.last_stage, record.evaluations(2), record.notes()) == (1, [], {})
    record.add_stage(stage_row(2), twice[:1], SHA, {})
    assert record.last_stage == 2


def test_create_does_not_touch_what_is_there(path: Path) -> None:
    with Record.create(path) as record:
        record.log("mine")
    with pytest.raises(MetaMapError, match="already exists"):
        Record.create(path)
    with Record.open(path) as record:
        assert record.entries()[0].text == "mine"


def test_nothing_but_the_record_is_left_in_the_folder(path: Path) -> None:
    Record.create(path).close()
    assert {entry.name for entry in path.parent.iterdir()} <= {"record.sqlite", "record.sqlite.lock"}


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()


def record_of_version(path: Path, version: int) -> None:
    Record.create(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))
    connection.close()


def damaged_record(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.1] * 40] * 41)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = os.urandom(4096 * 2)
    path.write_bytes(content)


def cut_record(path: Path) -> None:
    damaged_record(path)
    path.write_bytes(path.read_bytes()[:9000])


def wrong_type(path: Path) -> None:
    with Record.create(path) as record:
        record.add_stage(stage_row(1), [], SHA, {})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE stages SET expert_steps = 'many'")
    connection.close()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "not the record of a stream"),
        (lambda path: path.write_text("stages: many\n" * 100), "not a SQLite file"),
        (other_database, "not the record of a stream"),
        (
            lambda path: record_of_version(path, SCHEMA_VERSION + 1),
            f"schema version {SCHEMA_VERSION + 1}, this metamap_rl reads {SCHEMA_VERSION}",
        ),
        (damaged_record, "damaged"),
        (cut_record, "damaged"),
        (wrong_type, r"damaged \(stages: expert_steps: expected int, found 'many'\)"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_not_a_record_is_named(path: Path, make: Any, sentence: str, read_only: bool) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(MetaMapError, match=rf"record\.sqlite: .*{sentence}") as caught:  # noqa: SIM117
        with Record.open(path, read_only=read_only) as record:
            record.stages()
    assert "\n" not in str(caught.value)
    if path.is_file():  # and it is not held on to
        assert not Record.is_open_for_writing(path)


# one writer, any number of readers ------------------------------------------------------------------------------

OPEN = """
import sys
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.record import Record

try:
    with Record.open(sys.argv[1], read_only=sys.argv[2] == "True") as record:
        print(record.last_stage, Record.is_open_for_writing(record.path))
except MetaMapError as error:
    print(error)
"""


def test_a_second_process_may_read_but_not_write(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.0], [0.5]])
        assert run_python(OPEN, path, True).stdout == "1 True\n"
        assert "another process is running this stream" in run_python(OPEN, path, False).stdout
        record.add_stage(stage_row(2), [], SHA, {})
    assert run_python(OPEN, path, False).stdout == "2 True\n"
    assert run_python(OPEN, path, True).stdout == "2 False\n"


def test_a_reader_sees_whole_stages_while_one_is_being_written(record: Record) -> None:
    add_stages(record, [[0.0], [0.5]])
    with Record.open(record.path, read_only=True) as reader, record._database.transaction():
        record._insert(*_half_a_stage())
        assert reader.last_stage == 1
    assert record.last_stage == 2


def test_a_reader_may_hold_still_while_stages_are_added(record: Record) -> None:
    add_stages(record, [[0.0], [0.5]])
    with Record.open(record.path, read_only=True) as reader:
        with reader.still():
            assert reader.last_stage == 1
            record.add_stage(stage_row(2), [], SHA, {"probe": 1.0})
            assert (reader.last_stage, list(reader.timings())) == (1, [1])
        assert (reader.last_stage, list(reader.timings())) == (2, [1, 2])


def _half_a_stage() -> tuple[Any, Any]:
    from metamap_rl.stream.record import _STAGES

    return _STAGES, [stage_row(2)]


def test_a_read_only_record_cannot_be_written(path: Path) -> None:
    Record.create(path).close()
    with Record.open(path, read_only=True) as record, pytest.raises(MetaMapError, match="may not be written to"):
        record.log("x")


def test_another_program_that_locks_the_file_is_reported(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record._database.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(record.path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(MetaMapError, match="locked by another program"):
        record.add_stage(stage_row(1), [], SHA, {})
    other.rollback()
    other.close()
    record.add_stage(stage_row(1), [], SHA, {})


READ_AS_NOBODY = """
import os, sys
from metamap_rl.stream.record import Record
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
with Record.open(sys.argv[1], read_only=True) as record:
    print(record.last_stage, Record.is_open_for_writing(record.path))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="changes its user")
def test_a_record_in_a_folder_of_someone_else_can_be_read(path: Path) -> None:
    with Record.create(path) as record:
        add_stages(record, [[0.0], [0.5]])
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    opened = [folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    try:
        assert run_python(READ_AS_NOBODY, path).stdout == "1 False\n"
    finally:
        path.parent.chmod(0o755)
        for folder in opened:
            folder.chmod(folder.stat().st_mode & ~stat.S_IXOTH)
