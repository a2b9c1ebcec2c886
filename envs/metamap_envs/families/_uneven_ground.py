"""Uneven ground: one square height field, the same in every task, and how high it is at a place."""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.state import Array

__all__ = ["HALF_WIDTH", "ground_heights", "replace_ground"]

HALF_WIDTH = 25.0  # m
_CELL = 0.1  # m
_WAVELENGTHS = (0.4, 2.0)  # m, shortest and longest
_STD = 0.015  # m
_SEED = 2107
_DEPTH = 0.5  # m, of the solid below the lowest point


@cache
def _field() -> Array:
    """Heights [R, R] in m of the points of the grid, rows along y: noise whose amplitude goes with the wavelength."""
    count = round(2.0 * HALF_WIDTH / _CELL) + 1
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(count, _CELL), np.fft.fftfreq(count, _CELL)))
    shortest, longest = _WAVELENGTHS
    kept = (waves >= 1.0 / longest) & (waves <= 1.0 / shortest)
    amplitudes = np.where(kept, np.maximum(waves, 1.0 / longest) ** -2.0, 0.0)
    noise = np.random.default_rng(_SEED).standard_normal((count, count))
    heights = np.fft.ifft2(np.fft.fft2(noise) * amplitudes).real
    field: Array = np.round(heights * (_STD / heights.std()), 4)
    field.setflags(write=False)
    return field


def replace_ground(spec: mujoco.MjSpec, name: str) -> None:
    """Make a plane of a spec the height field."""
    field = _field()
    low, high = float(field.min()), float(field.max())
    spec.add_hfield(
        name=name,
        size=[HALF_WIDTH, HALF_WIDTH, high - low, _DEPTH],
        nrow=len(field),
        ncol=len(field),
        userdata=((field - low) / (high - low)).ravel(),
    )
    ground = spec.geom(name)
    ground.type, ground.hfieldname, ground.pos = mujoco.mjtGeom.mjGEOM_HFIELD, name, [0.0, 0.0, low]


def ground_heights(places: NDArray[np.float64]) -> Array:
    """Heights [...] in m at places [..., 2], between the points of the grid bilinear; outside as at the edge."""
    field = _field()
    position = np.clip((places + HALF_WIDTH) / _CELL, 0.0, len(field) - 1.0)
    first = np.minimum(position.astype(np.intp), len(field) - 2)
    part = position - first
    column, row, x, y = first[..., 0], first[..., 1], part[..., 0], part[..., 1]
    near = field[row, column] * (1.0 - x) + field[row, column + 1] * x
    far = field[row + 1, column] * (1.0 - x) + field[row + 1, column + 1] * x
    heights: Array = near * (1.0 - y) + far * y
    return heights
