"""Curves of a policy in service whose task changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metamap_rl.viz.figures import save_figure
from metamap_rl.viz.labels import Name, name_ends
from metamap_rl.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, dress, short_ticks

__all__ = ["Curve", "plot_service"]

_SMOOTHED = 20  # steps of the running mean of rewards
_COLOURS = {"base": GREY, "adapter": BLUE, "oracle": GREEN, "held": ORANGE}


@dataclass(frozen=True, eq=False)
class Curve:
    """Rewards of one policy [n]."""

    name: str
    rewards: NDArray[np.float64]


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
    figure = Figure(figsize=(9, 5))
    above, below = (figure.add_axes((0.09, bottom, 0.8, height)) for bottom, height in ((0.4, 0.52), (0.11, 0.22)))
    names = []
    for curve in curves:
        mean, colour = _running_mean(curve.rewards), _COLOURS.get(curve.name, PURPLE)
        above.plot(mean, color=colour, linewidth=1.8 if colour == BLUE else 1.2)
        names.append(Name(curve.name, float(mean[-1]), colour))
    above.set_ylabel(f"reward per step\n(mean of the last {_SMOOTHED})")
    above.set_title(title, loc="left")
    above.tick_params(labelbottom=False)
    steps = np.arange(len(windows))
    below.plot(steps, windows, color="black", linewidth=1.0)
    below.fill_between(steps, 0, windows, where=generated.tolist(), color=BLUE, alpha=0.3, lw=0)
    below.set_ylabel("window\n(transitions)")
    below.set_xlabel("environment step; dashed: the task changes; blue below: a generated policy acts")
    for axes in (above, below):
        axes.set_xlim(0, len(windows))
        for step in changes[:100]:
            axes.axvline(step, color=GREY, linestyle="--", linewidth=0.8)
        short_ticks(axes.yaxis)
        dress(axes)
    name_ends(above, names, size=9)
    save_figure(figure, path)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(sums))
    start = np.maximum(0, end - _SMOOTHED)
    found: NDArray[np.float64] = (sums[end] - sums[start]) / (end - start)
    return found
