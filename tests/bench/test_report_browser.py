"""The report in a real browser: Debian's or any other Chromium, driven by playwright. Skipped where there is none."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import made_up_cells
from metamap_envs.registry import get_family
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.trial import PolicyController, run_trial
from metamap_rl.bench.replays import Replay
from metamap_rl.bench.report import write_report
from metamap_rl.bench.summary import summarise
from metamap_rl.play.trials import PolicyLane, replay_of_policies
from metamap_rl.viz.style import BLUE, GREY

SECTIONS = ("headline", "stream-one", "stream-two", "cells", "families", "formulas", "reproduce")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(summarise(made_up_cells.cells()), out, title="Six learners", command="metamap report")
    return out


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a replay of twenty steps."""
    mapper, _ = find_mapper("cheetah-actuators")
    family = get_family(mapper.family)
    trial = run_trial(PolicyController(mapper.base, 1), [[family.task()]] * 20, seeds=[0], positions=True)
    lanes = [PolicyLane(key, key, trial) for key in ("base", "generated", "expert")]
    document = replay_of_policies(family, family.task(), lanes, transitions=50, sentence="mapped")
    document["scenes"] = {str(number): scene for number, scene in document["scenes"].items()}
    about = {"stream": "one", "learner": "replay", "order": 0, "seed": 0, "family": "reacher-goal", "caption": "lanes"}
    replay = Replay(format="metamap-replay-1", document=document, **about)
    out = tmp_path_factory.mktemp("replayed") / "report.html"
    cells = summarise(made_up_cells.cells(("replay",), streams=("one",)))
    write_report(cells, out, title="With a replay", command="metamap report", replays=[replay])
    return out


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report, offline; whatever the console says or the page asks the network for fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())
    yield page
    context.close()
    assert said == []


def first_column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"#table tbody tr:not([hidden]) > :nth-child({number})")
    return [str(text) for text in cells.all_inner_texts()]


def test_every_section_is_there_and_shows_something(page: Any) -> None:
    for section in SECTIONS:
        box = page.locator(f"#{section}").bounding_box()
        assert box["height"] > 60, section
        assert box["width"] > 600, section
    assert page.locator("figure svg").count() == page.locator("figure").count() >= 2 * 7
    for index in range(page.locator("figure svg").count()):
        assert page.locator("figure svg").nth(index).bounding_box()["height"] > 100


def test_a_heading_sorts_both_ways_by_number_and_from_the_keyboard(page: Any) -> None:
    head = page.locator("#table thead th", has_text="AP_final").first
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    column = 1 + head.evaluate("cell => cell.cellIndex")
    values = [float(text.split()[0]) for text in first_column(page, column)]
    assert values == sorted(values)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in first_column(page, column)] == values[::-1]
    page.locator("#table thead th button", has_text="learner").click()
    assert first_column(page, 2) == sorted(first_column(page, 2))
    assert head.get_attribute("aria-sort") == "none"


def test_filters_hide_rows_and_curves(page: Any) -> None:
    assert len(first_column(page, 1)) == 6
    page.select_option("#filter-stream", "two")
    assert first_column(page, 1) == ["two"] * 3
    page.fill("#filter-text", "JOI")
    assert first_column(page, 2) == ["joint"]
    assert page.inner_text("#count") == "1 of 6 rows"
    page.fill("#filter-text", "")
    page.select_option("#filter-stream", "")
    curves = page.locator("#figure-one-scores .learner-2")
    assert curves.first.is_visible()
    page.uncheck('input.learner[data-name="finetune"]')
    assert set(first_column(page, 2)) == {"replay", "joint"}
    assert not curves.first.is_visible()


def test_all_metrics_are_there_when_asked_for(page: Any) -> None:
    head = page.locator("#table thead th", has_text="F_iso")
    assert not head.is_visible()
    page.check("#all-metrics")
    assert head.is_visible()
    assert "mean_{j<i}" in head.locator("button").get_attribute("title")


def test_any_cells_matrix_can_be_looked_at(page: Any) -> None:
    assert page.locator("#cell-map rect.value").count() == 7 * 6
    assert page.locator("#cell-map text", has_text="cheetah-velocity").count() == 1
    page.select_option("#cell-stream", "two")
    page.select_option("#cell-learner", "finetune")
    page.select_option("#cell-run", "order 0, seed 1")
    assert page.locator("#cell-map svg").get_attribute("aria-label") == "R of finetune on two, order 0, seed 1"
    page.check("#cell-numbers")
    assert page.locator("#cell-map table tbody tr").count() == 7
    assert "AP_final" in page.inner_text("#cell-metrics")


def test_light_and_dark_follow_the_system_and_the_button(page: Any) -> None:
    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert paper() == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert paper() == "rgb(20, 23, 28)"
    page.click("#theme")
    assert paper() == "rgb(255, 255, 255)"
    label = page.locator("figure svg text").first
    page.click("#theme")
    assert label.evaluate("node => getComputedStyle(node).fill") == "rgb(230, 233, 237)"


def test_it_fits_a_narrow_screen(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for section in SECTIONS:
        assert page.locator(f"#{section}").bounding_box()["width"] <= 360


def test_the_picture_has_a_table_and_coloured_curves_where_they_belong(page: Any) -> None:
    """Structure, not pixels: paper around, ink in the table, learners' colours in the figure of scores."""
    picture = _colours(page.locator("#figure-one-scores").screenshot())
    for learner in (BLUE, GREY):
        wanted = tuple(int(learner[at : at + 2], 16) for at in (1, 3, 5))
        assert sum(count for colour, count in picture.items() if _near(colour, wanted)) > 50, learner
    table = _colours(page.locator("#table").screenshot())
    ink = sum(count for colour, count in table.items() if max(colour) < 110)
    assert 0.005 < ink / sum(table.values()) < 0.3
    box, figure = page.locator("#table").bounding_box(), page.locator("#figure-one-scores").bounding_box()
    assert box["y"] + box["height"] < figure["y"]


def _colours(png: bytes) -> dict[tuple[int, ...], int]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    found = image.getcolors(image.width * image.height)
    assert found is not None
    return {colour: count for count, colour in found if isinstance(colour, tuple)}


def _near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= 12


def test_the_address_holds_filters_and_the_chosen_cell(page: Any, report: Path) -> None:
    page.locator("#filter-stream").select_option("two")
    page.locator("input.learner[data-name=joint]").uncheck()
    page.locator("#cell-learner").select_option("finetune")
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("#filter-stream").input_value() == "two"
    assert not page.locator("input.learner[data-name=joint]").is_checked()
    assert page.locator("#cell-learner").input_value() == "finetune"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_headline_fits_and_the_navigation_sticks(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    box = page.locator("#table").bounding_box()
    assert box["x"] + box["width"] <= width
    page.evaluate("document.getElementById('formulas').scrollIntoView()")
    assert page.locator("nav").bounding_box()["y"] == pytest.approx(0, abs=1)


def test_a_point_of_a_curve_tells_its_learner_and_value(page: Any) -> None:
    figure = page.locator("#figure-one-scores")
    figure.scroll_into_view_if_needed()
    traces = json.loads(figure.locator("script.hover").text_content())["traces"]
    for number, name in ((0, "replay"), (2, "finetune")):
        trace = next(trace for trace in traces if trace["n"] == number)
        x, y = _on_screen(figure, trace["at"][-1])
        page.mouse.move(x, y)
        assert page.inner_text("#tip") == f"{name}, {trace['t'][-1]}"
        assert figure.locator(".ring").is_visible()
    page.uncheck('input.learner[data-name="finetune"]')
    page.mouse.move(x, y + 1)
    assert "finetune" not in page.locator("#tip").text_content() or page.locator("#tip").is_hidden()


def test_a_matrix_tells_task_and_family(page: Any) -> None:
    figure = page.locator("#figure-one-matrices")
    figure.scroll_into_view_if_needed()
    grid = json.loads(figure.locator("script.hover").text_content())["grids"][0]
    page.mouse.move(*_on_screen(figure, [grid["box"][0] + 3, grid["box"][1] + 3]))
    assert f"task 1 ({grid['f'][0]}) after stage 0: " in page.inner_text("#tip")
    page.locator("#cell-map rect.value").first.hover()
    assert "after stage 0: " in page.inner_text("#tip")


def test_names_in_figures_are_hidden_with_their_curves(page: Any) -> None:
    names = page.locator("#figure-one-scores text", has_text="finetune")
    assert names.count() == 2
    page.uncheck('input.learner[data-name="finetune"]')
    assert not any(names.nth(index).is_visible() for index in range(2))
    assert page.locator("#figure-one-scores text", has_text="replay").first.is_visible()
    assert page.locator("#families tr", has_text="finetune").first.is_hidden()


def test_the_address_holds_the_order_of_rows(page: Any) -> None:
    head = page.locator("#table thead th[data-name=MEM] button")
    head.click()
    head.click()
    rows, address = first_column(page, 2), page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("#table thead th[data-name=MEM]").get_attribute("aria-sort") == "descending"
    assert first_column(page, 2) == rows


def test_a_replay_plays_in_the_page(page: Any, replayed: Path) -> None:
    page.goto(replayed.as_uri())
    page.click("figure.replay .play")
    frame = page.frame_locator("figure.replay iframe")
    frame.locator(".lane.generated canvas").wait_for()
    assert frame.locator(".lane").count() == 3
    assert frame.locator("#panels").is_hidden()
    frame.locator("#pause").click()
    frame.locator("#place").evaluate("node => { node.value = 10; node.dispatchEvent(new Event('input')); }")
    page.wait_for_function("document.querySelector('figure.replay iframe').contentWindow.player.shown === 10")
    assert frame.locator("#time").inner_text() == f"{10 * get_family('cheetah-actuators').step_seconds:.1f} s"
    page.click("#theme")
    frame.locator("html.dark").wait_for()
    height = page.locator("figure.replay iframe").bounding_box()["height"]
    assert height == pytest.approx(frame.locator("body").evaluate("node => node.scrollHeight"), abs=2)


def test_on_paper_the_page_is_light(page: Any) -> None:
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    label = page.locator("figure svg text").first
    assert label.evaluate("node => getComputedStyle(node).fill") == "rgb(0, 0, 0)"


def _on_screen(figure: Any, at: list[float]) -> tuple[float, float]:
    """Where a point of a figure's SVG is on the screen."""
    script = (
        "(svg, [x, y]) => { const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [at.x, at.y]; }"
    )
    x, y = figure.locator("svg").evaluate(script, at)
    return x, y
