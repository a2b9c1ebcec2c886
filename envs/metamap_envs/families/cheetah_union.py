"""HalfCheetah with what four other families hide, all at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families.cheetah_crippled import JOINT, NONE_CRIPPLED, CheetahCrippled
from metamap_envs.families.cheetah_dynamics import CheetahDynamics
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["CheetahUnion"]

_VELOCITY = Parameter(
    name="target_velocity",
    unit="m/s",
    low=-4.0,
    high=4.0,
    default=1.5,
    train=((-3.0, 3.0),),
    out=((-3.5, -3.0), (3.0, 3.5)),
    description="velocity that is rewarded, backward if negative",
)
_JOINT = replace(
    JOINT,
    train_choices=(NONE_CRIPPLED, *JOINT.train_choices),
    description="joint whose actuator is dead, as in cheetah-crippled; -1 for none",
)


@register_family
class CheetahUnion(CheetahDynamics):
    """What `cheetah-velocity`, `cheetah-direction`, `cheetah-crippled` and `cheetah-dynamics` hide, all at once.

    A velocity to run at, forward or backward, with one dead actuator or none, and unknown mass, damping and friction:
    gaits that one small network has to hold all at once, and a generated one does not.

    Reward: ``-|v - target_velocity| - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s. Horizon 200.
    Source: the four families' own. The target is that of MAML's `half_cheetah_env_rand` in both directions, the dead
    actuator and the factors are CaDM's; here an intact robot is one of the training tasks.
    """

    name = "cheetah-union"
    description = "HalfCheetah at a hidden velocity in either direction, crippled or not, of unknown dynamics"
    space = ParameterSpace((_VELOCITY, _JOINT, *CheetahDynamics.space.parameters))
    physics_parameters = frozenset({"crippled_joint", *CheetahDynamics.physics_parameters})

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Take the dead actuator's gear away; scale masses, dampings and frictions."""
        CheetahCrippled.cripple(model, task)
        return super().apply(model, task)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to the target velocity and control cost, both negative."""
        return self.velocity_reward(before, after, actions, target=values[:, 0])
