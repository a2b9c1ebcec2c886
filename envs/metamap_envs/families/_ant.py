"""Ant-v5's physics and start, shared by the ant families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._starts import normal_velocities
from metamap_envs.family import Family
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import Task

__all__ = ["Ant"]

_RESET_NOISE = 0.1  # Ant-v5 reset_noise_scale


class Ant(Family):
    """Base of the ant families: Gymnasium Ant-v5 without contact forces, neither observed nor paid for.

    PEARL's Ants have none either: they run on a MuJoCo that left these forces at zero. Action (8): torques in [-1, 1].
    Source: `gymnasium/envs/mujoco/ant_v5.py`.
    """

    base_id = "Ant-v5"
    horizon = 200  # PEARL, VariBAD
    frame_skip = 5
    readouts: ClassVar[Mapping[str, Readout]] = {"torso": Readout("xpos", "body", "torso")}
    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0}

    def compile(self) -> mujoco.MjModel:
        """Compile the installed ant.xml as it is."""
        return gymnasium_asset("ant.xml").compile()

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Uniform noise on qpos, normal noise on qvel, drawn in Ant-v5's order."""
        return normal_velocities(self._initial, _RESET_NOISE, generator)

    @staticmethod
    def place(state: State) -> Array:
        """The torso's x and y, m, [N, 2], computed before the last integration as Ant-v5 has it."""
        return state.readouts["torso"][:, :2]
