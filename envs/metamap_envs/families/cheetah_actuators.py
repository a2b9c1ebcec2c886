"""HalfCheetah whose actuators are wired with unknown signs and strengths."""

from __future__ import annotations

from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families._half_cheetah import ACTUATORS, HalfCheetah
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["CheetahActuators"]

TARGET_VELOCITY = 2.0  # m/s


def _sign(actuator: str) -> Parameter:
    return Parameter(
        name=f"sign_{actuator}",
        unit="1",
        low=-1.0,
        high=1.0,
        default=1.0,
        choices=(-1.0, 1.0),
        description=f"direction in which {actuator} pulls",
    )


def _strength(actuator: str) -> Parameter:
    return Parameter(
        name=f"strength_{actuator}",
        unit="1",
        low=0.1,
        high=2.0,
        default=1.0,
        train=((0.5, 1.0),),
        out=((0.35, 0.5), (1.0, 1.2)),
        description=f"factor on the gear of {actuator}",
    )


@register_family
class CheetahActuators(HalfCheetah):
    """HalfCheetah-v5 physics with each actuator's gear times ``sign * strength``; run at 2 m/s.

    Reward: ``-|v - 2| - 0.05 sum(a^2)``. The 64 sign patterns are split 40 train, 8 validation, 16 test-in.
    Source: sign flips and strengths as in DMA*-SH; the reward is that of `cheetah-velocity`.
    """

    name = "cheetah-actuators"
    description = "HalfCheetah at 2 m/s whose six actuators have unknown signs and strengths"
    space = ParameterSpace(
        tuple(_sign(actuator) for actuator in ACTUATORS) + tuple(_strength(actuator) for actuator in ACTUATORS)
    )
    physics_parameters = frozenset(space.names)
    action_factors = tuple((f"sign_{actuator}", f"strength_{actuator}") for actuator in ACTUATORS)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the gears; the actuators' unit accelerations (`actuator_acc0`) follow from them."""
        for actuator in ACTUATORS:
            factor = task[f"sign_{actuator}"] * task[f"strength_{actuator}"]
            model.actuator(actuator).gear[0] *= factor
        return True

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to 2 m/s and control cost, both negative."""
        return self.velocity_reward(before, after, actions, target=TARGET_VELOCITY)
