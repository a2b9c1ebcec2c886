"""HalfCheetah that must run at a hidden velocity."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from metamap_envs.families._half_cheetah import HalfCheetah
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State

__all__ = ["CheetahVelocity"]


@register_family
class CheetahVelocity(HalfCheetah):
    """HalfCheetah-v5 physics; the target velocity shows only in the reward.

    Reward: ``-|v - target_velocity| - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s.
    Source: MAML's `half_cheetah_env_rand` (Finn et al., 2017), range U(0, 3) and horizon 200.
    """

    name = "cheetah-velocity"
    description = "HalfCheetah that must run at a hidden target velocity"
    space = ParameterSpace(
        (
            Parameter(
                name="target_velocity",
                unit="m/s",
                low=0.0,
                high=4.0,
                default=1.5,
                train=((0.0, 3.0),),
                out=((3.0, 3.5),),
                description="forward velocity that is rewarded",
            ),
        )
    )

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to the target velocity and control cost, both negative."""
        return self.velocity_reward(before, after, actions, target=values[:, 0])
