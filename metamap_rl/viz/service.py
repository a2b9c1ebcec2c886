"""Curves of a policy in service whose task changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metamap_rl.viz.figures import save_figure

__all__ = ["Curve", "plot_service"]

_SMOOTHED = 20  # steps of the running mean of rewards


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
