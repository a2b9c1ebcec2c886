"""HalfCheetah with one dead actuator, which is hidden."""

from __future__ import annotations

from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families._cadm import cadm_factor
from metamap_envs.families._half_cheetah import ACTUATORS, HalfCheetah, scale_mass
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["JOINT", "NONE_CRIPPLED", "CheetahCrippled"]

NONE_CRIPPLED = -1.0
JOINT = Parameter(
    name="crippled_joint",
    unit="index",
    low=NONE_CRIPPLED,
    high=5.0,
    default=NONE_CRIPPLED,
    choices=(NONE_CRIPPLED, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    train_choices=(0.0, 1.0, 2.0, 3.0),
    out_choices=(4.0, 5.0),
    categorical=True,
    description=f"joint whose actuator is dead, by its index in {', '.join(ACTUATORS)}; -1 for none",
)


@register_family
class CheetahCrippled(HalfCheetah):
    """HalfCheetah-v5 with one dead actuator: one of the first four in training, one of the other two outside.

    Reward: ``v - 0.1 sum(a^2)``, as in HalfCheetah-v5, v the mean forward velocity over the step in m/s. The dead
    actuator's action costs like any other. Horizon 200.
    Source: CaDM's crippled HalfCheetah (Lee et al., 2020), joints 0 to 3 in training and 4 and 5 in tests.

    There it has six tasks in all. Here the robot's mass varies as well, in CaDM's ranges, so that no two splits share a
    task; the tasks of the source are those with ``mass`` 1. An intact robot is the default, and in no split.
    """

    name = "cheetah-crippled"
    description = "HalfCheetah of unknown mass with one dead actuator, which is hidden"
    space = ParameterSpace(
        (JOINT, cadm_factor("mass", "factor on the masses and inertias of all bodies, 14 kg in all"))
    )
    physics_parameters = frozenset(space.names)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Take the dead actuator's gear away; scale masses and inertias."""
        self.cripple(model, task)
        scale_mass(model, task["mass"])
        return True

    @staticmethod
    def cripple(model: mujoco.MjModel, task: Task) -> None:
        """Take the gear of a task's dead actuator away, if there is one."""
        if task["crippled_joint"] != NONE_CRIPPLED:
            model.actuator(ACTUATORS[int(task["crippled_joint"])]).gear[0] = 0.0

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Forward velocity and the control cost."""
        return self.forward_reward(before, after, actions)
