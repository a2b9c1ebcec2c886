"""Swimmer in a fluid of unknown viscosity and density."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._starts import uniform_noise
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["SwimmerViscosity"]

_RESET_NOISE = 0.1  # Swimmer-v5 reset_noise_scale
_CONTROL_COST_WEIGHT = 1e-4
_DENSITY_UNIT = 1000.0  # kg/m^3

_VISCOSITY = Parameter(
    name="viscosity",
    unit="Pa s",
    low=0.0,
    high=100.0,
    default=0.1,
    train=((0.1, 30.0),),
    out=((30.0, 60.0),),
    description="viscosity of the fluid, for drag in proportion to the velocity",
)
_DENSITY = Parameter(
    name="density",
    unit="g/cm^3",
    low=0.4,
    high=8.0,
    default=4.0,
    train=((2.0, 6.0),),
    out=((0.4, 2.0), (6.0, 8.0)),
    description="density of the fluid, for drag in proportion to the square of the velocity",
)


@register_family
class SwimmerViscosity(Family):
    """Swimmer-v5 in another fluid.

    Observation (8): qpos without x and y (3), qvel (5). Action (2): torques in [-1, 1]. No termination.
    Reward: ``v - 0.0001 sum(a^2)``, as in Swimmer-v5, v the mean velocity along x over the step in m/s. Horizon 200.
    Source: `gymnasium/envs/mujoco/swimmer_v5.py`. Density is from .5 to 1.5 of its default in training and from .1 to 2
    outside, as DMA*-SH has it for strengths. Viscosity has no range in the field: Swimmer-v5's 0.1 Pa s is next to
    nothing beside its density, and at 30 Pa s sine waves in the joints swim at less than half of their speed.
    """

    name = "swimmer-viscosity"
    base_id = "Swimmer-v5"
    embodiment = "swimmer"
    description = "Swimmer in a fluid of unknown viscosity and density"
    horizon = 200
    frame_skip = 4
    unobserved_positions = 2
    space = ParameterSpace((_VISCOSITY, _DENSITY))
    physics_parameters = frozenset(space.names)

    def compile(self) -> mujoco.MjModel:
        """Compile the installed swimmer.xml as it is."""
        return gymnasium_asset("swimmer.xml").compile()

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Set the fluid, from which no other constant follows."""
        model.opt.viscosity = task["viscosity"]
        model.opt.density = _DENSITY_UNIT * task["density"]
        return False

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Uniform noise on qpos and qvel, drawn in Swimmer-v5's order."""
        return uniform_noise(self._initial, _RESET_NOISE, generator)

    def observe(self, state: State) -> Array:
        """Positions without x and y, then velocities."""
        return np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Velocity along x and the control cost."""
        forward = (after.qpos[:, 0] - before.qpos[:, 0]) / self.step_seconds
        control: Array = _CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return forward - control, {"x_velocity": forward, "reward_forward": forward, "reward_ctrl": -control}
