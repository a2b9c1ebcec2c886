"""HalfCheetah-v5's physics, start and observation, shared by the cheetah families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._starts import normal_velocities
from metamap_envs.family import Family
from metamap_envs.state import Array, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["ACTUATORS", "CONTROL_COST_WEIGHT", "HalfCheetah", "scale_mass"]

ACTUATORS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
CONTROL_COST_WEIGHT = 0.05  # MAML and PEARL halve HalfCheetah's 0.1
_FULL_CONTROL_COST_WEIGHT = 0.1  # HalfCheetah-v5 ctrl_cost_weight
_TOTAL_MASS = 14.0  # kg; the XML's deprecated settotalmass
_RESET_NOISE = 0.1  # HalfCheetah-v5 reset_noise_scale


def scale_mass(model: mujoco.MjModel, factor: float) -> None:
    """Scale masses and inertias of all bodies; `mj_setConst` must follow."""
    model.body_mass[:] *= factor
    model.body_inertia[:] *= factor


class HalfCheetah(Family):
    """Base of the cheetah families: Gymnasium HalfCheetah-v5 but for the reward, which each family chooses or defines.

    Observation (17): qpos without the x position (8), qvel (9). Action (6): torques in [-1, 1]. No termination.
    Source: `gymnasium/envs/mujoco/half_cheetah_v5.py`.
    """

    base_id = "HalfCheetah-v5"
    embodiment = "half-cheetah"
    horizon = 200  # MAML, PEARL, VariBAD
    frame_skip = 5
    unobserved_positions: ClassVar[int | None] = 1
    camera: ClassVar[Mapping[str, Any]] = {"distance": 4.0}

    def compile(self) -> mujoco.MjModel:
        """Compile the installed half_cheetah.xml, bit-equal to loading it but without its deprecation warning."""
        return self.compile_spec(self.read_spec())

    @staticmethod
    def read_spec() -> mujoco.MjSpec:
        """The installed half_cheetah.xml, but for its total mass, which `compile_spec` sees to."""
        return gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)

    @staticmethod
    def compile_spec(spec: mujoco.MjSpec) -> mujoco.MjModel:
        """Compile a spec that was read by `read_spec` and may have been changed, with a total mass of 14 kg."""
        model = spec.compile()
        mujoco.mj_setTotalmass(model, _TOTAL_MASS)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Uniform noise on qpos, normal noise on qvel, drawn in HalfCheetah-v5's order."""
        return normal_velocities(self._initial, _RESET_NOISE, generator)

    def observe(self, state: State) -> Array:
        """Positions without x, then velocities."""
        return np.concatenate([state.qpos[:, 1:], state.qvel], axis=1)

    def x_velocity(self, before: State, after: State) -> Array:
        """Mean forward velocity over the step, m/s, [N]."""
        velocity: Array = (after.qpos[:, 0] - before.qpos[:, 0]) / self.step_seconds
        return velocity

    def forward_reward(self, before: State, after: State, actions: NDArray[Any]) -> tuple[Array, dict[str, Array]]:
        """``v - 0.1 sum(a^2)`` [N] and its terms, v in m/s: the reward of HalfCheetah-v5 itself."""
        velocity = self.x_velocity(before, after)
        control: Array = _FULL_CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return velocity - control, {"x_velocity": velocity, "reward_forward": velocity, "reward_ctrl": -control}

    def velocity_reward(
        self, before: State, after: State, actions: NDArray[Any], target: Array | float
    ) -> tuple[Array, dict[str, Array]]:
        """``-|v - target| - 0.05 sum(a^2)`` [N] and its terms, v and target in m/s: the reward of MAML and PEARL."""
        velocity = self.x_velocity(before, after)
        tracking = -np.abs(velocity - target)
        control = -CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return tracking + control, {"x_velocity": velocity, "reward_velocity": tracking, "reward_ctrl": control}
