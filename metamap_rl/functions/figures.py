"""Figures of few-shot fits of functions of one number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.viz.labels import Key, name_lines
from metamap_rl.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, dress, short_ticks

__all__ = ["plot_fits"]

_FITS = (ORANGE, BLUE, GREEN, PURPLE)
_PANEL, _LEFT, _TOP, _BOTTOM, _BETWEEN = (2.2, 2.3), 0.55, 0.15, 0.5, 0.4  # inches


def plot_fits(spec: PolicySpec, episodes: FewShotBatch, fits: Mapping[str, Tensor]) -> Figure:
    """Plot tasks side by side: the function, the points of D, and the generated networks.

    Args:
        spec: shape of the networks, from one number to one number.
        episodes: T tasks; their evaluation points draw the true function.
        fits: weights [T, P] by legend text, later ones on top.
    """
    if (spec.observation_size, spec.action_size) != (1, 1):
        raise MetaMapError(f"expected functions from one number to one number, got {spec}")
    if not 0 < len(fits) <= len(_FITS):
        raise MetaMapError(f"expected 1 to {len(_FITS)} fits to draw, got {len(fits)}")
    count = len(episodes.support_inputs[0])
    keys = [Key("the function", GREY), *map(Key, fits, _FITS), Key(f"D, {count} points", "black", "", "o")]
    step, room = _PANEL[0] + _BETWEEN, 0.4 + 0.075 * max(len(key.text) for key in keys)
    width, height = _LEFT + step * len(episodes) + room, _TOP + _PANEL[1] + _BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    for task in range(len(episodes)):
        axes = figure.add_axes(((_LEFT + task * step) / width, _BOTTOM / height, _PANEL[0] / width, _PANEL[1] / height))
        x, order = episodes.inputs[task, :, 0].sort()
        axes.plot(x, episodes.targets[task, order, 0], color=GREY, lw=4, alpha=0.35, label="the function")
        grid = torch.linspace(float(x[0]), float(x[-1]), 200).unsqueeze(-1)
        for (label, phi), colour in zip(fits.items(), _FITS, strict=False):
            axes.plot(grid, forward(spec, phi[task], grid).detach(), color=colour, lw=1.6, label=label)
        points = (episodes.support_inputs[task, :, 0], episodes.support_targets[task, :, 0])
        axes.plot(*points, "o", color="black", ms=5, label=f"D, {len(points[0])} points")
        axes.set_xlabel("x")
        for axis in (axes.xaxis, axes.yaxis):
            short_ticks(axis)
        dress(axes, "both")
    figure.axes[0].set_ylabel("y")
    name_lines(figure.axes[-1], keys)
    return figure
