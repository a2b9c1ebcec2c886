"""The report: what is on the page and in the files, that they agree, and that nothing outside is asked for."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from helpers import made_up_cells
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.report import write_files, write_report
from metamap_rl.bench.report.drawing import as_inline_svg, as_svg
from metamap_rl.bench.report.figures import draw_stream
from metamap_rl.bench.report.matrices import family_bands
from metamap_rl.bench.report.page import ReportVideo
from metamap_rl.bench.report.pens import pens
from metamap_rl.bench.report.tables import HEADLINE, PARTLY, cells_csv, latex, markdown, number, summary_csv, text
from metamap_rl.bench.report.verdict import ONE_SEED, verdict
from metamap_rl.bench.summary import Estimate, Group, Summary, bands, summarise
from metamap_rl.cli import main
from metamap_rl.common.numbers import decimals
from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.stream.metrics import FORMULAS
from metamap_rl.viz.style import COLOURS, GREY

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(made_up_cells.cells())


@pytest.fixture(scope="module")
def page(summary: Summary, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "report.html"
    film = out.with_name("film.mp4")
    film.write_bytes(b"a film")
    videos = [ReportVideo(film, "reacher-goal", "base policy beside generated")]
    size = write_report(
        summary, out, title="A <b>title", command="metamap report", videos=videos, commands={"a": "metamap bench run a"}
    )
    assert size == out.stat().st_size
    return out.read_text()


class _Seen(HTMLParser):
    """Ids, addresses and the nesting of a page."""

    VOID = ("meta", "link", "input", "br", "img")

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "poster"):
                self.addresses.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_outside(page: str) -> None:
    seen = _Seen()
    seen.feed(page)
    assert not seen.open
    assert all(address.startswith(("#", "data:")) for address in seen.addresses)
    assert "url(http" not in page
    assert "@import" not in page
    for section in ("headline", "stream-one", "stream-two", "cells", "families", "formulas", "reproduce"):
        assert section in seen.ids
    assert {address[1:] for address in seen.addresses if address.startswith("#")} <= {*seen.ids}
    assert len(seen.ids) == len(set(seen.ids))


def test_what_comes_from_outside_is_escaped(page: str) -> None:
    assert "A &lt;b&gt;title" in page
    assert "<b>title" not in page


def test_the_headline_is_what_was_computed(page: str, summary: Summary) -> None:
    group = summary.groups[0]
    found = group.metrics["AP_final"]
    assert found is not None
    assert f'data-sort="{found.value!r}"' in page
    assert f"[{decimals(found.low, 3)}, {decimals(found.high, 3)}]" in page


def test_the_page_says_how_to_make_its_results_again(page: str) -> None:
    for part in ("metamap bench run a", "MetaMap/MadeUp-v0", "stable_baselines3", "kind: families", "data:video/mp4"):
        assert part in page


def test_the_data_of_the_page_is_every_cell(page: str, summary: Summary) -> None:
    document = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert document is not None
    data = json.loads(document[1])
    assert [(cell["s"], cell["l"], cell["e"]) for cell in data] == [
        (c.stream, c.learner, c.seed) for c in summary.cells
    ]
    np.testing.assert_allclose(data[0]["R"], summary.cells[0].R, atol=5e-4)


def test_videos_that_do_not_fit_are_named(summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metamap_rl.bench.report.page._VIDEO_BYTES", 5)
    (tmp_path / "long.mp4").write_bytes(b"too long")
    small = summarise(summary.groups[0].cells)
    write_report(
        small,
        tmp_path / "r.html",
        title="t",
        command="c",
        videos=[ReportVideo(tmp_path / "long.mp4", "reacher-goal", "x")],
    )
    text = (tmp_path / "r.html").read_text()
    assert "left out to keep the page small: long.mp4" in text
    assert "data:video" not in text


def test_a_video_that_is_too_long_does_not_keep_others_out(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metamap_rl.bench.report.page._VIDEO_BYTES", 10)
    videos = []
    for name, size in (("one", 4), ("long", 11), ("two", 4), ("three", 4)):
        (tmp_path / f"{name}.mp4").write_bytes(b"x" * size)
        videos.append(ReportVideo(tmp_path / f"{name}.mp4", "reacher-goal", f"film {name}"))
    small = summarise(summary.groups[0].cells)
    write_report(small, tmp_path / "r.html", title="t", command="c", videos=videos)
    text = (tmp_path / "r.html").read_text()
    assert "left out to keep the page small: long.mp4, three.mp4" in text
    assert re.findall(r"<figcaption>film (\w+)</figcaption>", text) == ["one", "two"]


def test_a_metric_that_only_some_cells_have_says_so(tmp_path: Path) -> None:
    cells = made_up_cells.cells(("replay", "finetune"), streams=("one",))
    assert PARTLY not in markdown(summarise(cells))
    as_good = replace(cells[0], baselines=[[1.0] * len(cells[0].curve_x)] * len(cells[0].tasks))
    partly = summarise([as_good, *cells[1:]])
    value = number("FT_auc", cells[1].metrics["FT_auc"] or 0.0)
    lines = markdown(partly).splitlines()
    assert f"| {value} (1 of 2) |" in lines[2]
    assert " of 2)" not in lines[3]
    assert lines[-1] == PARTLY
    tex = latex(partly)
    assert f"{value} (1 of 2) &" in tex
    assert tex.count(r" \\") == 1 + 2
    assert PARTLY in tex
    write_report(partly, tmp_path / "r.html", title="t", command="c")
    page = (tmp_path / "r.html").read_text()
    assert page.count("(1 of 2)") == 1
    assert page.count(PARTLY) == 1
    rows = list(csv.DictReader(io.StringIO(summary_csv(partly))))
    counts = {(row["learner"], row["metric"]): row["cells"] for row in rows}
    assert (counts["replay", "FT_auc"], counts["replay", "ABC"], counts["finetune", "FT_auc"]) == ("1", "2", "2")


def test_scores_of_a_family_that_only_some_cells_have_say_so(tmp_path: Path) -> None:
    first, *others = made_up_cells.cells(("replay",), streams=("one",))
    blank = replace(first, R=[*first.R[:-1], [None, *first.R[-1][1:]]])
    write_report(summarise([blank, *others]), tmp_path / "r.html", title="t", command="c")
    families = (tmp_path / "r.html").read_text().split('<section id="families">')[1].split("</section>")[0]
    assert families.count("(1 of 2)") == 1


def test_a_learner_that_is_retrained_now_and_then_has_dashes_for_what_lies_between(tmp_path: Path) -> None:
    cells = made_up_cells.cells(("joint", "replay"), streams=("one",))
    config = {**cells[0].config, "learner": {"name": "joint", "every": 4}}
    cells = [replace(cell, config=config) if cell.learner == "joint" else cell for cell in cells]
    summary = summarise(cells)
    joint, replay = summary.groups
    told = {name for name, found in joint.metrics.items() if found is not None}
    assert told == {"AP_final", "GEN_k", "GAP_k", "MEM", "UPD", "LAT", "ENV"}
    assert set(joint.metrics) == set(replay.metrics)
    assert {name for name, found in replay.metrics.items() if found is None} == {"PR"}

    sentence = "joint is retrained only after every 4 tasks and after the last"
    lines = markdown(summary).splitlines()
    shown = dict(zip(HEADLINE, lines[2].split(" | ")[3:], strict=True))
    assert [name for name, value in shown.items() if value != "–"] == [
        "GEN_k",
        "GAP_k",
        "AP_final",
        "MEM",
        "UPD",
        "ENV",
    ]
    assert lines[-1].startswith(sentence)
    assert sentence in latex(summary)
    assert {
        row["metric"] for row in csv.DictReader(io.StringIO(summary_csv(summary))) if row["learner"] == "joint"
    } == told
    first = next(csv.DictReader(io.StringIO(cells_csv(summary))))
    assert (first["F_last"], first["FT_auc"], first["AP_anytime"]) == ("", "", "")
    write_report(summary, tmp_path / "r.html", title="t", command="c")
    page = (tmp_path / "r.html").read_text()
    assert page.count(sentence) == 1
    families = page.split('<section id="families">')[1]
    assert re.search(r'<th scope="row"><span [^>]*></span>joint</th><td>–</td><td>\.', families)

    drawn = {figure.name: figure for figure in draw_stream(summary.of_stream("one"), summary.learners)}
    points = {
        name: {line.get_label(): len(np.asarray(line.get_xdata())) for line in reversed(axes.lines)}
        for name in ("one-scores", "one-forgetting", "one-learning")
        for axes in [drawn[name].figure.axes[0]]
    }
    assert (points["one-scores"]["joint"], points["one-scores"]["replay"]) == (1, 6)
    assert "joint" not in {*points["one-forgetting"], *points["one-learning"]}
    assert "replay" in points["one-forgetting"]
    assert "replay" in points["one-learning"]
    assert "joint" in drawn["one-forgetting"].caption


def test_a_score_that_is_not_there_is_not_a_failure() -> None:
    first, second = made_up_cells.cells(("replay",), streams=("one",), tasks=2)
    cells = [replace(first, R=[*first.R[:-1], [None, 0.5]]), replace(second, R=[*second.R[:-1], [None, None]])]
    summary = summarise(cells)
    drawn = {figure.name: figure for figure in draw_stream(summary.groups, summary.learners)}
    (line,) = (line for line in drawn["one-profile"].figure.axes[0].lines if line.get_label() == "replay")
    shares = dict(zip(np.round(np.asarray(line.get_xdata()), 3), np.asarray(line.get_ydata()), strict=True))
    assert (shares[0.0], shares[0.4], shares[0.6]) == (1.0, 1.0, 0.0)
    nothing = summarise([replace(second, R=[*second.R[:-1], [None, None]])])
    assert "one-profile" not in {figure.name for figure in draw_stream(nothing.groups, nothing.learners)}


def test_the_guide_names_every_metric() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    table = guide.split("## Metrics")[1].split("\n## ")[0]
    names = [name for row in re.findall(r"^\| (\w[^|]*) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert {*names} == {"name", *FORMULAS}


def test_files_hold_the_tables_and_every_figure_twice(summary: Summary, tmp_path: Path) -> None:
    small = summarise(summary.groups[0].cells)
    written = write_files(small, tmp_path)
    names = {path.name for path in written}
    assert {"cells.csv", "summary.csv", "summary.md", "summary.tex"} <= names
    for figure in ("scores", "forgetting", "learning", "frontier", "steps-of-d", "profile", "matrices"):
        for suffix in (".png", ".svg"):
            assert (tmp_path / f"one-{figure}{suffix}").stat().st_size > 1000
    assert (tmp_path / "one-scores.png").read_bytes()[:4] == b"\x89PNG"
    before = {path: path.read_bytes() for path in written if path.suffix != ".png"}
    write_files(small, tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_tables_agree(summary: Summary) -> None:
    rows = list(csv.DictReader(io.StringIO(cells_csv(summary))))
    assert len(rows) == len(summary.cells)
    assert float(rows[0]["AP_final"]) == summary.cells[0].metrics["AP_final"]
    assert rows[0]["PR"] == ""  # no task comes back
    sums = list(csv.DictReader(io.StringIO(summary_csv(summary))))
    by_key = {(row["stream"], row["learner"], row["metric"]): row for row in sums}
    found = summary.groups[0].metrics["F_last"]
    assert found is not None
    assert float(by_key["one", "replay", "F_last"]["value"]) == found.value
    assert float(by_key["one", "replay", "F_last"]["low"]) == found.low
    assert ("one", "replay", "PR") not in by_key
    assert len(markdown(summary).splitlines()) == 2 + 6 + 1 + len(HEADLINE)
    assert latex(summary).count(r" \\") == 1 + 6
    assert r"AP\_final" in latex(summary)


def test_figures_take_the_pages_colours_and_name_the_learners_curves(summary: Summary) -> None:
    drawn = {figure.name: figure for figure in draw_stream(summary.of_stream("one"), summary.learners)}
    svg = as_inline_svg(drawn["one-scores"])
    ET.fromstring(svg)
    assert "currentColor" in svg
    assert "#000000" not in svg.replace("fill: #000000; stroke", "")
    assert len(set(re.findall(r'class="learner-(\d)"', svg))) == 3
    assert b"currentColor" not in as_svg(drawn["one-scores"])
    axes = drawn["one-forgetting"].figure.axes[0]
    ends = {line.get_label(): float(np.asarray(line.get_ydata())[-1]) for line in axes.lines}
    assert ends["replay"] > ends["joint"] > ends["finetune"]  # as they were made up


def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path) -> None:
    cell = made_up_cells.cells(("replay",), streams=("one",), seeds=1, tasks=2)[0]
    name = r"$\nonsense$"  # as of an environment: TeX elsewhere
    odd = replace(cell, tasks=[name, "b"], families=[name, "b"], held_out=[name] * len(cell.held_out))
    write_report(summarise([odd]), tmp_path / "odd.html", title="odd", command="c")
    assert name in (tmp_path / "odd.html").read_text()


def test_cells_with_little_in_them_are_reported_too(summary: Summary, tmp_path: Path) -> None:
    bare = replace(
        made_up_cells.cells(("replay",), streams=("one",), seeds=1, tasks=1)[0],
        H=[[], []],
        held_out=[],
        lengths=[],
        by_length=[],
        curve_x=[],
        curves=[],
        baselines=[],
        R=[[None], [0.5]],
    )
    write_report(summarise([bare]), tmp_path / "bare.html", title="bare", command="c")
    text = (tmp_path / "bare.html").read_text()
    assert "–" in text
    assert "NaN" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_the_command_needs_results(tmp_path: Path, capsys: Output) -> None:
    for arguments, sentence in (
        ([], "missing DIR"),
        ([str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path)], "no finished cell"),
        ([str(tmp_path), "--out", str(tmp_path)], "is a folder"),
    ):
        assert main(["report", *arguments]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("F_last", -0.0001, ".000"),
        ("MEM", 2_500_000, "2.5 MB"),
        ("MEM", 272, "272 B"),
        ("MEM", 0, "0 B"),
        ("UPD", -0.33, "-330 ms"),
        ("LAT", 0.0008, "0.8 ms"),
        ("ENV", 86_720, "86.7 k"),
    ],
)
def test_numbers_are_short_and_have_units(name: str, value: float, words: str) -> None:
    assert number(name, value) == words


def test_intervals_of_costs_are_in_the_unit_of_the_value() -> None:
    assert text("MEM", Estimate(1.5e6, 9e5, 2e6, 2, 1, 2, 2)) == ("1.5 MB", "[0.9, 2]")
    assert text("UPD", Estimate(0.01, 0.004, 1.2, 2, 1, 2, 2)) == ("10 ms", "[4, 1.2e+03]")
    assert text("AP_final", Estimate(0.5, -0.1, 1.0, 2, 1, 1, 2)) == (".500 (1 of 2)", "[-.100, 1.000]")


def test_bands_draw_the_orders_of_a_seed_together() -> None:
    apart, alike = np.array([[0.0], [1.0], [1.0], [0.0]]), np.array([[0.0], [0.0], [1.0], [1.0]])
    assert [float(part[0]) for part in bands(apart, [0, 0, 1, 1])] == [0.5, 0.5, 0.5], "seeds do not differ"
    assert [float(part[0]) for part in bands(alike, [0, 0, 1, 1])] == [0.5, 0.0, 1.0]


def test_cells_of_other_tasks_are_reported_or_leave_their_held_out_scores_out(summary: Summary) -> None:
    first, second = summary.groups[0].cells[:2]
    fewer = replace(second, H=[row[:-1] for row in second.H], held_out=second.held_out[:-1])
    assert summarise([first, fewer]).groups[0].held_out.shape[2] == 0
    assert summarise([first, second]).groups[0].held_out.shape[2] > 0
    shorter = replace(second, R=[row[:-1] for row in second.R[:-1]])
    with pytest.raises(MetaMapError, match="cells of one learner on one stream"):
        _ = summarise([first, shorter]).groups[0].scores


def test_the_verdict_names_the_best_and_what_others_keep(summary: Summary) -> None:
    for sentence, stream in zip(verdict(summary), summary.streams, strict=True):
        scores = {group.learner: group.metrics["AP_final"] for group in summary.of_stream(stream)}
        best = max(scores, key=lambda name: scores[name].value)
        assert sentence.startswith(f"{stream}: {best} ends highest")
        assert all(name in sentence for name in scores)
    crowd = summarise(made_up_cells.cells(("replay", "joint", "agem", "ewc", "l2", "packnet", "ppo"), streams=("one",)))
    (sentence,) = verdict(crowd)
    assert "the other 2 have" in sentence
    assert "ppo" not in sentence


def test_a_learner_looks_the_same_in_every_report(summary: Summary) -> None:
    small = summarise(made_up_cells.cells(("finetune", "mine", "replay"), streams=("one",)))
    here, there = pens(small.learners, small.groups), pens(summary.learners, summary.groups)
    for name in ("finetune", "replay"):
        one, other = here[name], there[name]
        assert (one.colour, one.marker, one.dash) == (other.colour, other.marker, other.dash)
    assert {here[name].colour for name in ("finetune", "mine", "replay")} <= {*COLOURS, GREY}
    renamed = [replace(cell, learner="big", config={"learner": {"name": "replay"}}) for cell in small.groups[2].cells]
    assert pens(["big"], summarise(renamed).groups)["big"].colour == here["replay"].colour


def test_every_bundled_learner_has_a_look_of_its_own() -> None:
    group = summarise(made_up_cells.cells(("replay",), streams=("one",), seeds=1)).groups[0]
    groups = [
        Group("one", name, (replace(group.cells[0], config={"learner": {"name": name}}),)) for name in LEARNERS.names()
    ]
    looks = {(pen.colour, pen.marker) for pen in pens(LEARNERS.names(), groups).values()}
    assert len(looks) == len(groups)


def test_what_the_page_tells_of_points_is_what_is_drawn(summary: Summary) -> None:
    drawn = {figure.name: figure for figure in draw_stream(summary.of_stream("one"), summary.learners)}
    svg = ET.fromstring(as_svg(drawn["one-scores"]))
    width, height = (float(svg.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    told = drawn["one-scores"].hover()["traces"]
    assert {trace["n"] for trace in told} == {0, 1, 2}
    for trace in told:
        assert len(trace["at"]) == len(trace["t"])
        assert all(0 <= x <= width and 0 <= y <= height for x, y in trace["at"])
    group = summary.of_stream("one")[0]
    found = group.metrics["AP_final"]
    assert found is not None
    assert told[0]["t"][-1].startswith(f"stage 6: {decimals(found.value, 3)} [")
    (grid, *_) = drawn["one-matrices"].hover()["grids"]
    np.testing.assert_allclose(grid["v"], group.sorted_scores.mean(axis=0), atol=5e-4)
    assert grid["f"] == sorted(group.cells[0].families)


def test_families_of_tasks_are_bands() -> None:
    assert family_bands(["a", "a", "b", "a"]) == [("a", 0, 1), ("b", 2, 2), ("a", 3, 3)]
    assert family_bands([]) == []


def test_one_seed_has_no_interval_and_says_so(summary: Summary) -> None:
    one = summarise(cell for cell in summary.cells if cell.seed == summary.cells[0].seed)
    assert all(ONE_SEED in sentence for sentence in verdict(one))
    assert not any(ONE_SEED in sentence for sentence in verdict(summary))
    for drawn in draw_stream(one.of_stream("one"), one.learners):
        assert (ONE_SEED in drawn.caption) == ("matrices" not in drawn.name)
        assert not any("[" in text for trace in drawn.hover()["traces"] for text in trace["t"])


def test_columns_of_sorted_scores_are_the_same_tasks_in_every_order(summary: Summary) -> None:
    for group in summary.groups:
        for cell, table in zip(group.cells, group.sorted_scores, strict=True):
            order = sorted(range(len(cell.tasks)), key=lambda j: (cell.families[j], cell.tasks[j]))
            np.testing.assert_array_equal(table[:, 0], np.array(cell.R, dtype=float)[:, order[0]])


def test_bands_and_tables_have_one_estimator(summary: Summary) -> None:
    group = summary.groups[0]
    middle, *_ = bands(group.ap, group.seeds)
    assert middle[-1] == pytest.approx(group.metrics["AP_final"].value)
