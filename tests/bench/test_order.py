"""Whether two benchmarks put learners in the same order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.made_up_cells import cells
from metamap_agents.runtime.storage import write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.order import TABLE, agreement
from metamap_rl.bench.result import CELL, CellResult, cell_document
from metamap_rl.cli import main

LEARNERS = ("replay", "joint", "finetune", "reservoir", "agem")


def written(folder: Path, found: list[CellResult], rename: Callable[[str], str] = lambda name: name) -> Path:
    for number, cell in enumerate(found):
        write_json(folder / str(number) / CELL, cell_document(replace(cell, learner=rename(cell.learner))))
    return folder


def test_the_same_order_has_a_tau_of_one_and_the_reverse_of_minus_one(tmp_path: Path) -> None:
    made = cells(LEARNERS, seeds=3)
    one = written(tmp_path / "one", made)
    same = written(tmp_path / "same", [replace(cell, seed=cell.seed + 5) for cell in made])
    turned = written(tmp_path / "turned", made, lambda name: LEARNERS[-1 - LEARNERS.index(name)])
    assert agreement(one, same).tau == pytest.approx(1)
    found = agreement(one, turned)
    assert found.tau == pytest.approx(-1)
    assert found.low is not None
    assert found.high is not None
    assert -1.001 <= found.low <= found.tau + 0.001
    assert found.tau - 0.001 <= found.high
    assert found.seeds == (3, 3)
    assert set(found.learners) == set(LEARNERS)
    assert agreement(one, turned) == found


def test_learners_that_only_one_has_are_left_out(tmp_path: Path) -> None:
    one = written(tmp_path / "one", cells(LEARNERS, seeds=1))
    other = written(tmp_path / "other", cells((*LEARNERS[:3], "ewc"), seeds=1))
    found = agreement(one, other)
    assert found.left_out == ("reservoir", "agem", "ewc")
    assert (found.low, found.high) == (None, None)  # one seed
    with pytest.raises(MetaMapError, match=r"at least 3 learners with AP_final in both .* 2 \(replay, joint\)"):
        agreement(one, written(tmp_path / "few", cells(LEARNERS[:2])))
    with pytest.raises(MetaMapError, match="did you mean 'AP_final'"):
        agreement(one, other, "AP_finl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MetaMapError, match="empty: no finished cell"):
        agreement(one, tmp_path / "empty")


def test_the_table_of_a_report_stands_for_the_cells(tmp_path: Path) -> None:
    made = cells(LEARNERS, seeds=3)
    one, other = written(tmp_path / "one", made), written(tmp_path / "other", cells(LEARNERS, seeds=2))
    table = tmp_path / "table"
    table.mkdir()
    rows = [f"{cell.stream},{cell.learner},{cell.order},{cell.seed},{cell.metrics['AP_final']!r}" for cell in made]
    (table / "cells.csv").write_text("\n".join(["stream,learner,order,seed,AP_final", *rows]) + "\n")
    assert agreement(table, other) == agreement(one, other)
    with pytest.raises(MetaMapError, match=r"cells.csv: not a table of cells with GEN_k"):
        agreement(table, other, "GEN_k")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "stream"),
        (b"stream,learner,seed\ns,a,0\n", "AP_final"),
        (b"stream,learner,seed,AP_final\n", "no row"),
        (b"stream,learner,seed,AP_final\ns,a,0,nan\n", "line 2.*nan"),
        (b"stream,learner,seed,AP_final\ns,a,first,1.0\n", "line 2.*first"),
        (b"\xff\xfe\x00", "UTF-8"),
        (
            b"stream,learner,seed,AP_final\n" + b"".join(b"s,%c,0,1\ns,%c,1,2\nt,%c,0,3\n" % (n, n, n) for n in b"abc"),
            "seeds",
        ),
    ],
)
def test_a_table_that_is_none_is_refused_in_words(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / TABLE).write_bytes(text)
    with pytest.raises(MetaMapError, match=message):
        agreement(tmp_path, tmp_path)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(written(tmp_path / "one", cells(LEARNERS)))
    assert main(["bench", "order", folder, folder, "--out", str(tmp_path / "order.json")]) == 0
    assert "Kendall's tau of AP_final over 5 learners: 1.00" in capsys.readouterr().out
    assert json.loads((tmp_path / "order.json").read_text())["tau"] == pytest.approx(1)
    assert main(["bench", "order", folder]) == 2
