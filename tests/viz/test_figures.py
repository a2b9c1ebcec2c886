"""Plots: what is in them, and that the files are whole and the same each time."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metamap_envs import MetaMapError, get_family
from metamap_rl.evaluation.evaluate import Evaluation, MethodScores
from metamap_rl.evaluation.figures import plot_lengths
from metamap_rl.viz.figures import save_figure

LENGTHS = (0, 20, 50)
NAMES = {
    "base policy",
    "expert",
    "generated policy",
    "from another task's D",
}


def evaluation(*, tasks: int = 4, margin: float = 10.0, shuffled: bool = True) -> Evaluation:
    """Base policy at -20, experts ``margin`` above, generated policies in between, in two seeds."""
    generator = np.random.default_rng(0)
    base = -20.0 + generator.normal(size=tasks)
    expert = base + margin
    methods = []
    for index, steps in enumerate(LENGTHS):
        share = index / len(LENGTHS)
        methods.append(MethodScores("mapper", steps, np.stack([base + share * margin] * 2)))
        if steps and shuffled:
            methods.append(MethodScores("shuffled", steps, np.stack([base - 5.0] * 2)))
    return Evaluation(
        tuple(get_family("reacher-goal").sample("test-in", tasks, 0)), 10, base - 30.0, base, expert, methods
    )


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.axes[-1].texts}


def test_a_figure_has_a_panel_per_family_and_every_curve() -> None:
    figure = plot_lengths({"other": evaluation(shuffled=False), "reacher-goal": evaluation()})
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["other", "reacher-goal"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["0", "20", "50"]
    assert "transitions in D" in first.get_xlabel()
    assert "4 unseen tasks, 10 episodes" in first.get_xlabel()
    assert "return" in first.get_ylabel()
    assert texts(figure) == NAMES
    assert len(first.get_lines()) == len(second.get_lines()) - 1


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_nothing_is_cut_off(panels: int) -> None:
    figure = plot_lengths({f"family {index}": evaluation() for index in range(panels)})
    figure.canvas.draw()
    whole = figure.bbox
    for part in [*figure.axes, *figure.axes[-1].texts]:
        box = part.get_tightbbox()
        assert box is not None
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_gap_closed_runs_from_the_base_policy_to_the_expert() -> None:
    figure = plot_lengths({"reacher-goal": evaluation()}, score="gap closed")
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert lines["base policy"] == pytest.approx([0.0, 0.0])
    assert lines["expert"] == pytest.approx([1.0, 1.0])
    assert lines["generated policy"] == pytest.approx([0.0, 1 / 3, 2 / 3])


def test_what_cannot_be_plotted_is_refused() -> None:
    with pytest.raises(MetaMapError, match="no evaluation to plot"):
        plot_lengths({})
    with pytest.raises(MetaMapError, match="did you mean 'return'"):
        plot_lengths({"reacher-goal": evaluation()}, score="retrun")  # type: ignore[arg-type]
    with pytest.raises(MetaMapError, match="no task has a gap to close"):
        plot_lengths({"reacher-goal": evaluation(margin=0.0)}, score="gap closed")
    plot_lengths({"reacher-goal": evaluation(margin=0.0)})


def test_files_are_whole_and_equal_each_time(tmp_path: Path) -> None:
    for suffix in (".png", ".svg"):
        first, second = tmp_path / f"a{suffix}", tmp_path / "folder" / f"b{suffix}"
        save_figure(plot_lengths({"reacher-goal": evaluation()}), first)
        save_figure(plot_lengths({"reacher-goal": evaluation()}), second)
        assert first.read_bytes() == second.read_bytes()
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert image.width > 500
        assert len(set(image.convert("RGB").resize((64, 64)).tobytes())) > 10
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "folder"]
    with pytest.raises(MetaMapError, match=r"ends in .png or .svg"):
        save_figure(plot_lengths({"reacher-goal": evaluation()}), tmp_path / "a.pdf")
