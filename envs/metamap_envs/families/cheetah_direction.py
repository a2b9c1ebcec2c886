"""HalfCheetah that must run forward or backward, and is not told which."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from metamap_envs.families._half_cheetah import CONTROL_COST_WEIGHT, HalfCheetah
from metamap_envs.family import Array, State, register_family, sum_of_squares
from metamap_envs.parameters import Parameter, ParameterSpace

__all__ = ["CheetahDirection"]


@register_family
class CheetahDirection(HalfCheetah):
    """HalfCheetah-v5 physics; the direction shows only in the reward.

    Reward: ``direction * v - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s.
    Source: PEARL's and MAML's `HalfCheetahDir` (Finn et al., 2017), directions -1 and +1, horizon 200.

    There are two tasks in all, so every split holds the same two: a held-out task of this family is one that was
    trained on, and in a zoo the two splits share its expert. As in the literature, it shows adaptation, not
    generalisation.
    """

    name = "cheetah-direction"
    description = "HalfCheetah that must run forward or backward, and is not told which"
    space = ParameterSpace(
        (
            Parameter(
                name="direction",
                unit="1",
                low=-1.0,
                high=1.0,
                default=1.0,
                choices=(-1.0, 1.0),
                description="direction that is rewarded: 1 forward, -1 backward",
            ),
        )
    )

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Velocity in the rewarded direction, and the control cost."""
        velocity = self.x_velocity(before, after)
        forward = values[:, 0] * velocity
        control = -CONTROL_COST_WEIGHT * sum_of_squares(actions)
        return forward + control, {"x_velocity": velocity, "reward_forward": forward, "reward_ctrl": control}
