"""Curves and film of a policy in service whose task changes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.viz.drawing import Drawer, Picture, Renderer, make_drawer
from metamap_rl.viz.figures import save_figure
from metamap_rl.viz.video import OnFrame, describe_task, encode

__all__ = ["Curve", "ServiceSide", "plot_service", "record_service"]

_SIDE = (384, 288)  # pixels of one picture, both even
_TOP, _BELOW, _PAD, _LINE = 54, 90, 8, 18
_LONGEST_FPS = 30.0
_MARKED = 1.0  # seconds for which a change is marked
_COLUMNS = 104
_LINES = 3  # of parameters below
_SMOOTHED = 20  # steps of the running mean of rewards
_BAR, _TEXT, _DIM, _ALARM = (24, 28, 34), (245, 245, 245), (176, 186, 196), (200, 64, 48)
_GEOMETRY = ("body_pos", "geom_size", "geom_pos", "geom_rgba", "site_pos")


@dataclass(frozen=True, eq=False)
class Curve:
    """Rewards of one policy [n]."""

    name: str
    rewards: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ServiceSide:
    """One half of a film.

    Attributes:
        name: of the policy.
        positions: qpos at the start and after each step, float64 [n + 1, nq].
        rewards: of each step [n].
        captions: after each step [n].
    """

    name: str
    positions: NDArray[np.float64]
    rewards: NDArray[np.float64]
    captions: Sequence[str]


def plot_service(
    path: str | Path,
    title: str,
    curves: Sequence[Curve],
    windows: NDArray[np.int64],
    generated: NDArray[np.bool_],
    changes: Sequence[int],
) -> None:
    """Draw running means of rewards, and the adapter's window and served policy, over steps.

    Args:
        path: ``.png`` or ``.svg``.
        title: above the figure.
        curves: rewards of each policy.
        windows: length of the adapter's window after each step [n].
        generated: whether a generated policy acts [n].
        changes: steps at which the task changes.

    Raises:
        MetaMapError: another suffix, or the file cannot be written.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for curve in curves:
        above.plot(_running_mean(curve.rewards), label=curve.name, linewidth=1.2)
    above.set_ylabel(f"reward per step\n(mean of the last {_SMOOTHED})")
    above.set_title(title)
    above.legend(loc="best", fontsize="small")
    steps = np.arange(len(windows))
    below.plot(steps, windows, color="black", linewidth=1.0)
    below.fill_between(steps, 0, windows, where=generated.tolist(), alpha=0.3, label="generated policy acts")
    below.set_ylabel("window\n(transitions)")
    below.set_xlabel("environment step; dashed: the task changes")
    below.legend(loc="upper left", fontsize="small")
    for axes in (above, below):
        for step in changes[:100]:
            axes.axvline(step, color="grey", linestyle="--", linewidth=0.8)
    save_figure(figure, path)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(sums))
    start = np.maximum(0, end - _SMOOTHED)
    found: NDArray[np.float64] = (sums[end] - sums[start]) / (end - start)
    return found


def record_service(
    path: str | Path,
    family: Family,
    tasks: Sequence[Task],
    sides: Sequence[ServiceSide],
    *,
    renderer: Renderer = "auto",
    on_frame: OnFrame | None = None,
) -> None:
    """Film two policies side by side as an mp4 (H.264), in real time; changes of the task are marked.

    Args:
        path: must end in ``.mp4``; written whole or not at all.
        family: of the tasks.
        tasks: task of each step [n].
        sides: left and right.
        renderer: MuJoCo's, a flat drawing in software, or the first that works.
        on_frame: progress.

    Raises:
        MetaMapError: another suffix, no ffmpeg, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".mp4":
        raise MetaMapError(f"{path}: expected a name that ends in .mp4")
    stride = math.ceil(1.0 / (family.step_seconds * _LONGEST_FPS) - 1e-9)
    steps = range(0, len(tasks), stride)
    size = (2 * _SIDE[0], _TOP + _SIDE[1] + _BELOW)
    fps = 1.0 / (family.step_seconds * stride)
    frames = _frames(family, tasks, sides, steps, renderer)
    encode(path, frames, len(steps), size, fps, on_frame)


def _frames(
    family: Family, tasks: Sequence[Task], sides: Sequence[ServiceSide], steps: range, renderer: Renderer
) -> Iterator[Picture]:
    changes = [step for step in range(1, len(tasks)) if tasks[step] != tasks[step - 1]]
    marked = math.ceil(_MARKED / family.step_seconds)
    returns = [np.concatenate([[0.0], np.cumsum(side.rewards)]) for side in sides]
    model, drawer = family.model(tasks[0]), make_drawer(family.model(tasks[0]), *_SIDE, renderer)
    try:
        for step in steps:
            now = family.model(tasks[step])
            if _looks_different(model, now):
                drawer.close()
                drawer = make_drawer(now, *_SIDE, renderer)
            model = now
            last = max((change for change in changes if change <= step), default=None)
            told = _told(tasks[last - 1], tasks[last]) if last is not None and step < last + marked else ""
            yield _frame(drawer, tasks[step], step, sides, returns, marked=told)
    finally:
        drawer.close()


def _frame(
    drawer: Drawer,
    task: Task,
    step: int,
    sides: Sequence[ServiceSide],
    returns: Sequence[NDArray[np.float64]],
    *,
    marked: str,
) -> Picture:
    """One frame, uint8 [height, width, 3]; ``marked`` tells of a change, and is "" without one."""
    width, height = _SIDE
    frame = Image.new("RGB", (2 * width, _TOP + height + _BELOW), _BAR)
    pen, large, small = ImageDraw.Draw(frame), ImageFont.load_default(16), ImageFont.load_default(13)
    for index, side in enumerate(sides):
        frame.paste(Image.fromarray(drawer.draw(side.positions[step])), (index * width, _TOP))
        left, right = index * width + _PAD, (index + 1) * width - _PAD
        pen.text((left, 18), side.name, _TEXT, large, anchor="lm")
        pen.text((right, 18), f"return {returns[index][step]:.1f}", _TEXT, large, anchor="rm")
        pen.text((left, 40), side.captions[max(0, step - 1)], _DIM, small, anchor="lm")
    top = _TOP + height
    if marked:
        pen.rectangle((0, _TOP, 2 * width - 1, top - 1), outline=_ALARM, width=4)
    pen.text((_PAD, top + _PAD), f"step {step}{marked}", _TEXT, small)
    for row, line in enumerate(textwrap.wrap(describe_task(task), _COLUMNS, break_on_hyphens=False)[:_LINES], start=1):
        pen.text((_PAD, top + _PAD + row * _LINE), line, _DIM, small)
    return np.asarray(frame)


def _told(before: Task, after: Task) -> str:
    """The parameters that have changed."""
    changed = [f"{name} {value:.3g}" for name, value in after.parameters if value != before[name]]
    return textwrap.shorten(f": the task has changed to {', '.join(changed)}", _COLUMNS - 12, placeholder=" ...")


def _looks_different(one: mujoco.MjModel, other: mujoco.MjModel) -> bool:
    if one is other:
        return False
    return any(not np.array_equal(getattr(one, name), getattr(other, name)) for name in _GEOMETRY)
