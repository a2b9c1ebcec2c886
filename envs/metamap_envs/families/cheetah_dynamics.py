"""HalfCheetah whose mass, joint damping and friction are unknown."""

from __future__ import annotations

from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families._cadm import cadm_factor
from metamap_envs.families._half_cheetah import HalfCheetah, scale_mass
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["CheetahDynamics"]


@register_family
class CheetahDynamics(HalfCheetah):
    """HalfCheetah-v5 with three factors on its physics: all masses (with inertias), joint dampings and frictions.

    Reward: ``v - 0.1 sum(a^2)``, as in HalfCheetah-v5, v the mean forward velocity over the step in m/s. Horizon 200.
    Source: mass and damping are varied by CaDM (Lee et al., 2020), from .75 to 1.25 in training and in [.4, .5] and
    [1.5, 1.6] outside; the friction of every geom is added here, in the same ranges.
    """

    name = "cheetah-dynamics"
    description = "HalfCheetah whose mass, joint damping and friction are unknown"
    space = ParameterSpace(
        (
            cadm_factor("mass", "factor on the masses and inertias of all bodies, 14 kg in all"),
            cadm_factor("damping", "factor on the damping of each joint"),
            cadm_factor("friction", "factor on the friction of each geom, the floor's too"),
        )
    )
    physics_parameters = frozenset(space.names)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the three quantities; what follows from masses is computed again."""
        scale_mass(model, task["mass"])
        model.dof_damping[:] *= task["damping"]
        model.geom_friction[:] *= task["friction"]
        return True

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Forward velocity and the control cost."""
        return self.forward_reward(before, after, actions)
