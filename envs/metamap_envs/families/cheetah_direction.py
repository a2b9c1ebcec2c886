"""HalfCheetah that must run in a hidden direction, forward or backward."""

from __future__ import annotations

from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families._cadm import cadm_factor
from metamap_envs.families._half_cheetah import CONTROL_COST_WEIGHT, HalfCheetah, scale_mass
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["CheetahDirection"]

_DIRECTION = Parameter(
    name="direction",
    unit="1",
    low=-1.0,
    high=1.0,
    default=1.0,
    choices=(-1.0, 1.0),
    description="direction that is rewarded: 1 forward, -1 backward",
)
_MASS = cadm_factor("mass", "factor on the masses and inertias of all bodies, 14 kg in all")


@register_family
class CheetahDirection(HalfCheetah):
    """HalfCheetah-v5 that runs forward or backward; the direction shows only in the reward.

    Reward: ``direction * v - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s.
    Source: MAML's `half_cheetah_env_rand_direc` (Finn et al., 2017) and PEARL's `half_cheetah_dir`, horizon 200.

    There it has two tasks in all, which leaves none to hold out, and a zoo without validation experts. Here the robot's
    mass varies as well, in CaDM's ranges, so that no two splits share a task; the two tasks of the sources are those
    with ``mass`` 1. Both directions are in every split all the same: what is held out is a weight, not a direction.
    """

    name = "cheetah-direction"
    description = "HalfCheetah of unknown mass that must run in a hidden direction, forward or backward"
    space = ParameterSpace((_DIRECTION, _MASS))
    physics_parameters = frozenset({"mass"})

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale masses and inertias."""
        scale_mass(model, task["mass"])
        return True

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Velocity in the rewarded direction, and the control cost."""
        velocity = self.x_velocity(before, after)
        forward = values[:, 0] * velocity
        control = -CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return forward + control, {"x_velocity": velocity, "reward_forward": forward, "reward_ctrl": control}
