"""The report in a real browser: Debian's or any other Chromium, driven by playwright. Skipped where there is none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import made_up_cells
from metamap_rl.bench.report import write_report
from metamap_rl.bench.summary import summarise

SECTIONS = ("headline", "stream-one", "stream-two", "cells", "families", "formulas", "reproduce")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(summarise(made_up_cells.cells()), out, title="Six learners", command="metamap report")
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
    assert page.locator("#cell-map rect").count() == 7 * 6
    page.select_option("#cell-stream", "two")
    page.select_option("#cell-learner", "finetune")
    page.select_option("#cell-run", "order 0, seed 1")
    assert "R of finetune on two, order 0, seed 1" in page.locator("#cell-map svg > title").text_content()
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
    """Structure, not pixels: paper around, ink in the table, every learner's colour in the figure of scores."""
    picture = _colours(page.locator("#figure-one-scores").screenshot())
    for learner in ("#1f77b4", "#d1662b", "#2f9e58"):
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
