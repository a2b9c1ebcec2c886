"""Ant that must run to a hidden place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._ant import Ant
from metamap_envs.families._parameters import angle
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State, sum_of_squares

__all__ = ["AntGoal"]

_CONTROL_COST_WEIGHT = 0.1  # PEARL's


@register_family
class AntGoal(Ant):
    """Ant-v5 without contact forces that must run to a hidden goal around its start and stay there.

    Observation (29): qpos (15), x and y among them, and qvel (14). The ant of `ant-direction` does not see where it is,
    so that the two are different embodiments.
    Reward: ``-(|x - goal_x| + |y - goal_y|) - 0.1 sum(a^2)``, x and y of the torso in m. No termination, horizon 200.
    Source: PEARL's `ant_goal` (Rakelly et al., 2019), whose goals are in a disc of radius 3 m. They are uniform by area
    there; here radius and angle are uniform, each for itself, and goals up to 4 m away are outside.
    """

    name = "ant-goal"
    embodiment = "ant-with-position"
    unobserved_positions = 0
    description = "Ant that must run to a hidden place and stay there"
    space = ParameterSpace(
        (
            Parameter(
                name="goal_radius",
                unit="m",
                low=0.0,
                high=4.0,
                default=2.0,
                train=((0.0, 3.0),),
                out=((3.0, 4.0),),
                description="distance of the goal from the start",
            ),
            angle("goal_angle", "direction of the goal seen from the start"),
        )
    )

    def observe(self, state: State) -> Array:
        """All positions, then velocities."""
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to the goal, along x and y, and the control cost, both negative."""
        radius, angle = values[:, 0], values[:, 1]
        x, y = self.place(after).T
        distance = -(np.abs(x - radius * np.cos(angle)) + np.abs(y - radius * np.sin(angle)))
        control: Array = -_CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return distance + control, {"reward_goal": distance, "reward_ctrl": control}
