"""Walker under unknown gravity."""

from __future__ import annotations

import mujoco

from metamap_envs.families._parameters import GRAVITY
from metamap_envs.families._walker import Walker
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.task import Task

__all__ = ["WalkerGravity"]


@register_family
class WalkerGravity(Walker):
    """Walker2d-v5 under a gravity between half and one and a half of Earth's; outside, from a tenth to twice.

    Reward: ``v + healthy - 0.001 sum(a^2)``, as in Walker2d-v5, v the mean forward velocity over the step in m/s,
    healthy 1 or 0. Horizon 200.
    Source: the ranges are those of DMA*-SH.
    """

    name = "walker-gravity"
    description = "Walker under unknown gravity"
    space = ParameterSpace((GRAVITY,))
    physics_parameters = frozenset(space.names)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Set gravity, from which no other constant follows."""
        model.opt.gravity[2] = -task["gravity"]
        return False
