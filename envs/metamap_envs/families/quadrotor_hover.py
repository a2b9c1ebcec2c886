"""Quadrotors of any size that hover in place."""

from __future__ import annotations

from metamap_envs.families._quadrotor import PARAMETERS, Quadrotor
from metamap_envs.parameters import ParameterSpace
from metamap_envs.registry import register_family

__all__ = ["QuadrotorHover"]


@register_family
class QuadrotorHover(Quadrotor):
    """Fly to the origin and hover there, with a vehicle of unknown mass, thrust, inertia and motors.

    Physics, observation (22), action (4), start and end are those of `Quadrotor`. Horizon 500 (5 s).
    Reward: ``1 - 0.6 d / (d + 2) - 0.2 (1 - cos(angle)) / 2 - 0.1 w / (w + 10) - 0.1 mean(change^2) / 4``, in [0, 1],
    from the state after the step: d the distance to the target in arm lengths, angle of the rotation from level flight
    with the nose along x, w the angular velocity in rad/s, change the action minus the last one.
    Source: ranges, observation and limits of RAPTOR (Eschmann et al. 2025), physics and starts of its simulator l2f.
    The mass is drawn log-uniformly, there uniformly in its cube root. The reward is ours, with the terms of l2f's
    squared one, bounded; payload, rotors and wind are ours.
    """

    name = "quadrotor-hover"
    base_id = "MetaMap/QuadrotorHover-v0"
    description = "Quadrotor of 20 g to 5 kg that flies to a point and hovers, with weak rotors, payload and wind"
    space = ParameterSpace(PARAMETERS)
    physics_parameters = frozenset(space.names)
