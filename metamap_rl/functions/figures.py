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

__all__ = ["plot_fits"]

_TRUE, _POINTS, _FITS = "#6b6b6b", "#111111", ("#c2571a", "#0b6fb8", "#2b8a3e", "#8a2b7e")


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
    figure = Figure(figsize=(2.6 * len(episodes) + 0.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(episodes), squeeze=False)[0]
    for task, axes in enumerate(panels):
        x, order = episodes.inputs[task, :, 0].sort()
        axes.plot(x, episodes.targets[task, order, 0], color=_TRUE, lw=4, alpha=0.35, label="the function")
        grid = torch.linspace(float(x[0]), float(x[-1]), 200).unsqueeze(-1)
        for (label, phi), colour in zip(fits.items(), _FITS, strict=False):
            axes.plot(grid, forward(spec, phi[task], grid).detach(), color=colour, lw=1.6, label=label)
        points = (episodes.support_inputs[task, :, 0], episodes.support_targets[task, :, 0])
        axes.plot(*points, "o", color=_POINTS, ms=5, label=f"D, {len(points[0])} points")
        axes.set_xlabel("x")
        axes.grid(color="0.92", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("y")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2 + len(fits), frameon=False
    )
    return figure
