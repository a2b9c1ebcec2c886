"""What scripts make of odd input: a sentence, a dash or null, never a number that means nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.synthetic import FAMILY, pairs, rollout_of
from helpers.tiny_stream import tiny_config
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.config import to_yaml

SCRIPTS = Path(__file__).parents[2] / "scripts"
WITH_MAIN = [path for path in sorted(SCRIPTS.glob("*.py")) if "def main()" in path.read_text(encoding="utf-8")]


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


@pytest.mark.parametrize("path", WITH_MAIN, ids=lambda path: path.stem)
def test_every_script_is_run_by_the_same_hand(path: Path) -> None:
    assert path.read_text(encoding="utf-8").endswith("    from _running import run_script\n\n    run_script(main)\n")


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


def test_a_page_that_is_not_there_is_told_by_the_command_itself(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "results_table.py"), "--results", str(SCRIPTS.parent / "docs" / "results")]
    done = subprocess.run([*command, "--into", "nope.md"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "results_table.py: nope.md: No such file or directory\n")


# tables ---------------------------------------------------------------------------------------------------------------


def steps(task: int, scratch: int | None, phi_hat: int | None) -> dict[str, Any]:
    found = {"scratch": scratch, "phi-0": 30, "phi-hat": phi_hat}
    return {"task": task, **{name: {"steps": count, "budget": 100} for name, count in found.items()}}


@pytest.mark.parametrize(
    ("tasks", "cell"),
    [
        ([steps(0, 60, 20), steps(1, 60, 20)], "3.0"),
        ([steps(0, 60, 20), steps(1, None, 20)], "at least 4.0"),
        ([steps(0, 60, 20), steps(1, 60, None)], "–"),
        ([steps(0, 60, 20), steps(1, None, None)], "–"),
    ],
)
def test_a_ratio_over_a_lower_bound_is_not_known(script: Any, tasks: list[dict[str, Any]], cell: str) -> None:
    entry = script("measure_expert_steps").summarise(tasks)
    assert (entry["scratch_over_phi_hat"] is None) == (cell == "–")
    assert (entry["phi_0_over_phi_hat"] is None) == (cell == "–")
    table = script("results_table").expert_steps_table({"families": {}, "all": entry})
    assert table[-2].endswith(f"| {cell} |")


def test_a_folder_without_documents_has_no_tables_and_overwrites_none(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, good = tmp_path / "page.md", "<!-- families -->\n\n| good |\n\n<!-- /families -->\n"
    page.write_text(good)
    assert script("results_table").tables(tmp_path) == {}
    assert called(script, monkeypatch, "results_table", "--results", tmp_path, "--into", page) == 2
    assert "no documents of results" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(MetaMapError, match=r"page\.md: table 'families': the folder of results has no documents"):
        script("results_table").pages([page], {"engine": "made"})
    assert page.read_text() == good


def test_pages_are_written_when_all_of_them_can_be(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, before = tmp_path / "page.md", "<!-- mapping -->old<!-- /mapping -->\n"
    page.write_text(before)
    words = ["--results", SCRIPTS.parent / "docs" / "results", "--into", page]
    assert called(script, monkeypatch, "results_table", *words, tmp_path / "nope.md") == 2
    assert page.read_text() == before
    assert called(script, monkeypatch, "results_table", *words) == 0
    assert "| --- |" in page.read_text()


@pytest.mark.parametrize("place", ["families", "nonsense", "protocol"])
def test_results_of_a_protocol_fill_a_page_or_leave_everything_alone(
    script: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = script("protocol_results")
    rows = [{"method": "mapper", "steps": 50, "gap_closed": None, "normalised": None, "better_than_mapper": None}]
    summary = {
        "families": {"b": {"splits": {"test-in": {"methods": rows, "tasks": [], "counted_tasks": 0}}}},
        "headline_steps": 50,
        "pooled": [],
    }
    monkeypatch.setattr(results, "open_run", lambda run: run)
    monkeypatch.setattr(results, "summarise_runs", lambda runs: summary)
    for name, made in {"draw": [], "markdown": "text\n", "about": "about\n"}.items():
        monkeypatch.setattr(results, name, lambda *arguments, made=made: made)
    page, before = tmp_path / "page.md", f"<!-- {place} -->good<!-- /{place} -->\n"
    page.write_text(before)
    out = tmp_path / "new" / "results.md"
    if place == "protocol":
        results.make([tmp_path], out, [page])
        assert "| b |" in page.read_text()
        assert (out.parent / "results" / "protocol" / "b.json").is_file()
        assert out.read_text().endswith("about\ntext\n")
        return
    with pytest.raises(MetaMapError, match=f"table '{place}'"):
        results.make([tmp_path], out, [page])
    assert page.read_text() == before
    assert not out.parent.exists()


# streams --------------------------------------------------------------------------------------------------------------


def test_a_comparison_of_learners_on_one_family(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = {"kind": "families", "families": [FAMILY], "tasks": 2}
    (tmp_path / "one.yaml").write_text(to_yaml(tiny_config(stream=kind, experts__start="phi-0")))
    monkeypatch.setattr(
        "metamap_rl.stream.scoreboard.clearly_better_each", lambda experts, base: np.zeros(len(experts), np.bool_)
    )  # no expert has a lead
    words = ["--config", tmp_path / "one.yaml", "--learners", "replay", "--orders", 1, "--seeds", 1, "--workers", 1]
    words += ["--runs", tmp_path / "runs"]
    assert called(script, monkeypatch, "measure_stream", *words, "--out", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    (cell,) = found["cells"]
    assert cell["BWT_families"] is None
    assert cell["gap_closed_final"] == {"stream": None, "held-out": None}
    assert found["learners"]["replay"]["gap_closed_stream"] is None
    row = script("results_table").stream_table(found)[2]
    assert row.startswith("| replay | 1 | ")
    assert "nan" not in row
    assert "–" in row
    capsys.readouterr()
    assert called(script, monkeypatch, "measure_stream", *words, "--set", "map_steps=10") == 2
    told = capsys.readouterr().err
    assert "replay-order0-seed0: holds a run with other settings (map_steps)" in told
    assert called(script, monkeypatch, "measure_stream", *words) == 0


def test_a_setting_without_a_value_is_told(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(script, monkeypatch, "measure_stream", "--runs", tmp_path / "runs", "--set", "foo") == 2
    assert capsys.readouterr().err == "measure_stream.py: --set expects KEY=VALUE, got 'foo'\n"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([None, None, None, None], None),
        ([0.5, 0.5, None, 0.7], {"iqm": 0.5, "runs": 2}),
        ([0.5, 0.5, 0.5, 0.5], {"iqm": 0.5, "low": 0.5, "high": 0.5}),
    ],
)
def test_seeds_without_a_number_are_left_out_openly(script: Any, values: list[float | None], found: Any) -> None:
    assert script("measure_stream").interval(values, [0, 0, 1, 1]) == found


def test_the_orders_of_a_seed_are_drawn_together(script: Any) -> None:
    interval = script("measure_stream").interval
    apart, alike = interval([0.0, 1.0, 1.0, 0.0], [0, 0, 1, 1]), interval([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert (apart["low"], apart["high"]) == (0.5, 0.5), "seeds do not differ"
    assert (alike["low"], alike["high"]) == (0.0, 1.0)


# damage and margins ---------------------------------------------------------------------------------------------------


def test_permuted_sensors_leave_none_in_place(script: Any) -> None:
    whole = rollout_of(pairs(3, 0), 0)
    places = np.arange(whole.observations.shape[1], dtype=np.float32)
    marked = np.tile(places, (len(whole), 1))
    rollout, orders = replace(whole, observations=marked, next_observations=marked), set()
    for seed in range(20):
        found = script("measure_selfcheck").permuted_sensors(rollout, np.random.default_rng(seed))
        np.testing.assert_array_equal(found.observations, found.next_observations)
        order = found.observations[0]
        assert sorted(order) == places.tolist()
        assert (order != places).all()
        orders.add(tuple(order))
    assert len(orders) > 1


def test_altered_transitions_have_the_shape_of_those_given_and_leave_them_alone(script: Any) -> None:
    whole = rollout_of(pairs(3, 0), 0)
    before = replace(whole, observations=whole.observations.copy(), rewards=whole.rewards.copy())
    for name, alter in script("measure_alarms").ALTERATIONS.items():
        altered = alter(whole, np.random.default_rng(0))
        same = []
        for column in ("observations", "actions", "rewards", "next_observations"):
            mine, given = getattr(altered, column), getattr(whole, column)
            assert (mine.shape, mine.dtype) == (given.shape, given.dtype), f"{name}: {column}"
            same.append(np.array_equal(mine, given))
        assert all(same) == (name == "plain"), name
        np.testing.assert_array_equal(whole.observations, before.observations)
        np.testing.assert_array_equal(whole.rewards, before.rewards)
