"""HalfCheetah that must run at a hidden velocity with actuators of unknown signs and strengths."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from metamap_envs.families.cheetah_actuators import CheetahActuators
from metamap_envs.families.cheetah_velocity import CheetahVelocity
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State

__all__ = ["CheetahVelocityActuators"]


@register_family
class CheetahVelocityActuators(CheetahActuators):
    """`cheetah-actuators` at the hidden target velocity of `cheetah-velocity`: what to do and how, both unknown.

    Reward: ``-|v - target_velocity| - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s. Horizon 200.
    Source: both families' own. The target is in U(0, 3) (MAML); signs and strengths are as in DMA*-SH, and the sign
    patterns of each split are those of `cheetah-actuators`.
    """

    name = "cheetah-velocity-actuators"
    description = "HalfCheetah at a hidden velocity, its six actuators of unknown signs and strengths"
    space = ParameterSpace(CheetahVelocity.space.parameters + CheetahActuators.space.parameters)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to the target velocity and control cost, both negative."""
        return self.velocity_reward(before, after, actions, target=values[:, 0])
