"""Reacher whose target is hidden."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._parameters import angle
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, Readout, State, sum_of_squares
from metamap_envs.task import Task

__all__ = ["ReacherGoal"]

_GOAL_BOX = 0.2  # m; Reacher-v5 draws its target in this box


@register_family
class ReacherGoal(Family):
    """Reacher-v5 with one fixed target per task, seen only through the reward.

    Observation (8): cos and sin of both joints, their velocities, the fingertip's x and y. Reacher-v5's target position
    and fingertip-to-target vector are left out: they would tell the hidden parameters. Action (2): torques in [-1, 1].
    Reward: ``-|fingertip - target| - sum(a^2)``, as in Reacher-v5. No termination, horizon 50.
    Source: `gymnasium/envs/mujoco/reacher_v5.py`; hidden goals as in PEARL.
    """

    name = "reacher-goal"
    base_id = "Reacher-v5"
    embodiment = "reacher"
    description = "Reacher that must find and hold a hidden target"
    horizon = 50
    frame_skip = 2
    readouts: ClassVar[Mapping[str, Readout]] = {
        "fingertip": Readout("xpos", "body", "fingertip"),
        "target": Readout("xpos", "body", "target"),
    }
    camera: ClassVar[Mapping[str, Any]] = {"trackbodyid": 0}
    space = ParameterSpace(
        (
            Parameter(
                name="goal_radius",
                unit="m",
                low=0.0,
                high=0.21,
                default=0.15,
                train=((0.05, 0.18),),
                out=((0.18, 0.2),),
                description="distance of the target from the arm's root; the arm reaches 0.21 m",
            ),
            angle("goal_angle", "direction of the target seen from the arm's root"),
        )
    )

    def compile(self) -> mujoco.MjModel:
        """Compile the installed reacher.xml as it is."""
        return gymnasium_asset("reacher.xml").compile()

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Reacher-v5's noise on the arm; the target at the task's goal.

        Reacher-v5 draws a goal between the two noises. It is drawn here too, and dropped, so that one seed gives
        the same arm in both environments.
        """
        initial_qpos, initial_qvel = self._initial
        qpos = generator.uniform(low=-0.1, high=0.1, size=len(initial_qpos)) + initial_qpos
        while np.linalg.norm(generator.uniform(low=-_GOAL_BOX, high=_GOAL_BOX, size=2)) >= _GOAL_BOX:
            pass
        qvel = initial_qvel + generator.uniform(low=-0.005, high=0.005, size=len(initial_qvel))
        self.carry(task, qpos, qvel)
        return qpos, qvel

    def carry(self, task: Task, qpos: Array, qvel: Array) -> None:
        """The target, at rest at the task's goal."""
        radius, angle = task["goal_radius"], task["goal_angle"]
        qpos[-2:] = radius * math.cos(angle), radius * math.sin(angle)
        qvel[-2:] = 0.0

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """Joint angles from their cos and sin, in [-pi, pi]; the target at the goal."""
        joints = np.arctan2(observations[:, 2:4], observations[:, :2])
        radius, angle = values[:, :1], values[:, 1:2]
        qpos = np.concatenate([joints, radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return qpos, np.concatenate([observations[:, 4:6], np.zeros_like(joints)], axis=1)

    def observe(self, state: State) -> Array:
        """Joint angles as cos and sin, joint velocities, fingertip position."""
        angles = state.qpos[:, :2]
        fingertip = state.readouts["fingertip"][:, :2]
        return np.concatenate([np.cos(angles), np.sin(angles), state.qvel[:, :2], fingertip], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance of fingertip to target and control cost, both negative."""
        offset = after.readouts["fingertip"] - after.readouts["target"]
        distance = -np.sqrt(np.vecdot(offset, offset))  # the same product that np.linalg.norm takes of one row
        control = -sum_of_squares(actions)
        return distance + control, {"reward_dist": distance, "reward_ctrl": control}
