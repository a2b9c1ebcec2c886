"""Starts of episodes: a keyframe or the reference pose, with noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.mjcf.binding import Binding
from metamap_envs.mjcf.declaration import Amount, Start
from metamap_envs.state import Array

__all__ = ["Starts"]


@dataclass(frozen=True)
class Starts:
    """Draws positions and velocities of new episodes.

    Attributes:
        qpos: before noise, [nq].
        qvel: before noise, [nv].
        positions: amount of noise on each position, [nq].
        velocities: amount of noise on each velocity, [nv].
        normal: whether noise is normal, not uniform.
    """

    qpos: Array
    qvel: Array
    positions: Array
    velocities: Array
    normal: bool

    @classmethod
    def of(cls, start: Start, binding: Binding) -> Starts:
        """Those that a declaration describes.

        Raises:
            MetaMapError: there is no such keyframe or joint, or the keyframe sets activations.
        """
        model, noise = binding.model, start.noise
        qpos, qvel = np.array(model.qpos0), np.zeros(model.nv)
        if start.keyframe is not None:
            key = binding.number("key", start.keyframe)
            if model.na and model.key_act[key].any():
                raise MetaMapError(f"start.keyframe: {start.keyframe!r} sets activations, and episodes start without")
            qpos, qvel = np.array(model.key_qpos[key]), np.array(model.key_qvel[key])
        return cls(
            qpos,
            qvel,
            _amounts(noise.positions, model.nq, binding, binding.positions),
            _amounts(noise.velocities, model.nv, binding, binding.velocities),
            noise.distribution == "normal",
        )

    def draw(self, model: mujoco.MjModel, generator: np.random.Generator) -> tuple[Array, Array]:
        """Positions [nq], with quaternions of length 1, and velocities [nv]; positions are drawn first."""
        qpos, qvel = (
            mean + self._noise(amounts, generator)
            for mean, amounts in ((self.qpos, self.positions), (self.qvel, self.velocities))
        )
        if model.nq != model.nv:
            mujoco.mj_normalizeQuat(model, qpos)
        return qpos, qvel

    def _noise(self, amounts: Array, generator: np.random.Generator) -> Array:
        if self.normal:
            return amounts * generator.standard_normal(len(amounts))
        return generator.uniform(-amounts, amounts)


def _amounts(amount: Amount, size: int, binding: Binding, elements: Callable[[Sequence[int]], list[int]]) -> Array:
    found = np.zeros(size)
    if not isinstance(amount, dict):
        return np.full(size, amount)
    for name, each in amount.items():
        found[elements([binding.number("joint", name)])] = each
    return found
