"""Walker whose masses, inertias, joint damping and friction are unknown."""

from __future__ import annotations

import mujoco

from metamap_envs.families._random_params import POWERS, scale_by_powers
from metamap_envs.families._walker import Walker
from metamap_envs.registry import register_family
from metamap_envs.task import Task

__all__ = ["WalkerDynamics"]


@register_family
class WalkerDynamics(Walker):
    """Walker2d-v5 with four factors on its physics: 1.5^p for mass, inertia and friction, 1.3^p for joint damping.

    Reward: ``v + healthy - 0.001 sum(a^2)``, as in Walker2d-v5, v the mean forward velocity over the step in m/s,
    healthy 1 or 0. Horizon 200.
    Source: the factors and p in U(-3, 3) are those of PEARL's and VariBAD's `Walker2DRandParams`, which draws a power
    for every body, joint and geom. Here one power holds for all of a kind, as in `hopper-dynamics`.
    """

    name = "walker-dynamics"
    description = "Walker whose masses, inertias, damping and friction are unknown"
    space = POWERS
    physics_parameters = frozenset(space.names)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Scale the four quantities; what follows from masses and inertias is computed again."""
        scale_by_powers(model, task)
        return True
