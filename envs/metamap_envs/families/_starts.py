"""Starts of episodes that Gymnasium's MuJoCo robots share: noise on positions and velocities, drawn in its order."""

from __future__ import annotations

import numpy as np

from metamap_envs.state import Array

__all__ = ["normal_velocities", "uniform_noise"]


def uniform_noise(initial: tuple[Array, Array], scale: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Uniform noise in [-scale, scale] on qpos, then on qvel."""
    qpos, qvel = initial
    qpos = qpos + generator.uniform(low=-scale, high=scale, size=len(qpos))
    return qpos, qvel + generator.uniform(low=-scale, high=scale, size=len(qvel))


def normal_velocities(
    initial: tuple[Array, Array], scale: float, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Uniform noise in [-scale, scale] on qpos, then normal noise of that standard deviation on qvel."""
    qpos, qvel = initial
    qpos = qpos + generator.uniform(low=-scale, high=scale, size=len(qpos))
    return qpos, qvel + scale * generator.standard_normal(len(qvel))
