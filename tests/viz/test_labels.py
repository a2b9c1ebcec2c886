"""Names beside what they name: none covers another, and all are where a reader looks for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metamap_rl.viz.labels import Key, Name, name_ends, name_lines, name_points
from metamap_rl.viz.style import short_ticks


def panel() -> Axes:
    figure = Figure(figsize=(5, 3))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.6, 0.8))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


@settings(max_examples=25)
@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=14))
def test_names_of_ends_are_apart_and_in_the_order_of_their_curves(ends: list[float]) -> None:
    axes = panel()
    name_ends(axes, [Name(str(index), end, "black") for index, end in enumerate(ends)])
    places = {int(text.get_text()): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    heights = np.array([places[index] for index in range(len(ends))])
    order = np.argsort(np.clip(ends, 0, 1), kind="stable")
    assert np.all(np.diff(np.sort(heights)) > 0.03)
    assert np.clip(np.array(ends), 0, 1)[np.argsort(heights)] == pytest.approx(np.clip(np.array(ends), 0, 1)[order])


def test_an_end_that_is_unknown_still_has_a_name() -> None:
    axes = panel()
    name_ends(axes, [Name("known", 0.5, "black"), Name("unknown", np.nan, "black")])
    assert {text.get_text() for text in axes.texts} == {"known", "unknown"}


def test_names_of_points_do_not_cover_one_another() -> None:
    axes = panel()
    name_points(axes, [Name(f"name {index}", 0.5, "black", x=0.5) for index in range(4)])
    axes.get_figure().canvas.draw()  # type: ignore[union-attr]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_names_of_lines_have_a_piece_of_the_line() -> None:
    axes = panel()
    name_lines(axes, [Key("one", "red", "--"), Key("two", "blue")])
    assert [text.get_text() for text in axes.texts] == ["one", "two"]
    assert [line.get_color() for line in axes.lines] == ["red", "blue"]


@pytest.mark.parametrize(("limits", "words"), [((0, 1), {"0", ".2", "1.0"}), ((-300, 0), {"−300", "0"})])
def test_ticks_are_short(limits: tuple[float, float], words: set[str]) -> None:
    axes = panel()
    axes.set_ylim(*limits)
    short_ticks(axes.yaxis)
    axes.get_figure().canvas.draw()  # type: ignore[union-attr]
    assert words <= {label.get_text() for label in axes.get_yticklabels()}
