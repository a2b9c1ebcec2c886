"""How a stream stands, read from records of streams that are beginning, going, and done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.stream_rows import SHA, add_stages, evaluation, stage_row
from metamap_rl.stream.record import Record
from metamap_rl.stream.status import read_status

R = [[0.1, 0.2, 0.3], [0.8, 0.4, 0.2], [0.9, 1.0, 0.5], [0.5, 0.7, 0.9]]
H = [[0.0, 0.2], [0.2, 0.4], [0.4, 0.6], [0.6, 0.8]]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with Record.create(tmp_path / "record.sqlite") as record:
        yield record


def test_a_finished_stream(record: Record) -> None:
    add_stages(record, R, held_out=H)
    status = read_status(record, 3)
    assert (status.done, status.total) == (3, 3)
    assert status.decisions == {"trained": 3}
    assert status.metrics["AP_final"] == pytest.approx(0.7)
    assert status.metrics["F_last"] == pytest.approx(0.3)
    assert status.metrics["BWT"] == pytest.approx(-0.3)
    assert status.metrics["BWT_families"] is None  # one family
    assert status.ap == pytest.approx([0.8, 0.95, 0.7])
    assert status.gen == {50: pytest.approx([0.1, 0.3, 0.5, 0.7])}
    assert (status.expert_steps, status.saved_steps, status.environment_steps) == (6000, 18000, 3000)
    assert (status.memory_bytes, status.memory_items) == (4096, 4)
    assert status.seconds == {"probe": 1.5, "expert": 6.0}


def test_a_stream_in_the_middle_is_measured_as_if_it_ended_there(record: Record) -> None:
    add_stages(record, R[:3], held_out=H[:3])
    status = read_status(record, 3)
    assert (status.done, status.total) == (2, 3)
    assert status.metrics["AP_final"] == pytest.approx(0.95)
    assert status.metrics["F_last"] == pytest.approx(-0.1)
    assert status.metrics["FWT_zs"] == pytest.approx(0.2)


def test_a_stream_before_its_first_stage(record: Record) -> None:
    for rows in ([], [evaluation(0, 0, 0.1), evaluation(0, 0, 0.2, split="held-out")]):
        record.add_evaluations(rows)
        status = read_status(record, 3)
        assert status.done == 0
        assert set(status.metrics.values()) == {None}
        assert status.ap == []
    assert status.gen == {50: [0.2]}


def test_a_stream_that_is_not_measured_at_all(record: Record) -> None:
    for stage in (1, 2):
        record.add_stage(stage_row(stage), [], SHA, {})
    status = read_status(record, 2)
    assert set(status.metrics.values()) == {None}
    assert status.ap == [None, None]
    assert status.gen == {}


def test_what_was_not_measured_leaves_holes_in_curves(record: Record) -> None:
    add_stages(record, [[0.1, 0.2, 0.3], [0.8, 0.4, 0.2]])
    record.add_stage(stage_row(2), [evaluation(2, 1, 0.9), evaluation(2, 2, 0.5)], SHA, {})
    record.add_stage(stage_row(3), [evaluation(3, place, 0.6) for place in range(3)], SHA, {})
    status = read_status(record, 3)
    assert status.ap == [0.8, None, pytest.approx(0.6)]
    assert status.metrics["F_last"] == pytest.approx((0.2 + 0.3) / 2)
    assert status.metrics["F_max"] is None


def test_bwt_of_families(record: Record) -> None:
    for stage, family in ((0, ""), (1, "a"), (2, "b")):
        rows = [
            evaluation(stage, position, score, split="held-out", family=name)
            for position, (name, score) in enumerate([("a", 0.9 - 0.1 * stage), ("b", 0.5)])
        ]
        if stage:
            record.add_stage(stage_row(stage, family=family), rows, SHA, {})
    assert read_status(record, 2).metrics["BWT_families"] == pytest.approx(-0.1)


def test_decisions_notes_and_log(record: Record) -> None:
    record.log("started")
    for stage, decision in enumerate(["trained", "served", "failed", "served"], start=1):
        spent = 2000 if decision == "trained" else 0
        notes = ["diverged"] if decision == "failed" else []
        record.add_stage(stage_row(stage, decision=decision, expert_steps=spent), [], SHA, {}, notes)
    status = read_status(record, 9)
    assert list(status.decisions.items()) == [("served", 2), ("trained", 1), ("failed", 1)]
    assert status.saved_steps == 6000 + 8000 + 8000
    assert status.notes == [(3, "diverged")]
    assert [text for _, text in status.log] == ["started"]
    assert status.log[0][0][:2] == "20"


def test_whether_it_is_alive(record: Record) -> None:
    path = record.path
    assert read_status(record, 1).alive
    record.close()
    with Record.open(path, read_only=True) as reader:
        assert not read_status(reader, 1).alive
