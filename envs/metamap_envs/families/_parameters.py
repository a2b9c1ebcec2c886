"""Parameters that several families have."""

from __future__ import annotations

import math

from metamap_envs.parameters import Parameter, Scale

__all__ = ["GRAVITY", "angle", "declared"]

GRAVITY = Parameter(
    name="gravity",
    unit="m/s^2",
    low=0.98,
    high=19.62,
    default=9.81,
    train=((4.91, 14.71),),
    out=((0.98, 4.91), (14.71, 19.62)),
    description="gravitational acceleration",
)
"""From half to one and a half of Earth's in training, from a tenth to twice outside: the ranges of DMA*-SH."""


def angle(name: str, description: str) -> Parameter:
    """Any direction, rad; all of the circle in training, so there is no outside."""
    return Parameter(
        name=name,
        unit="rad",
        low=-math.pi,
        high=math.pi,
        default=0.0,
        train=((-3.141592, 3.141592),),
        description=description,
        periodic=True,
    )


def declared(
    name: str,
    unit: str,
    train: tuple[float, float],
    out: tuple[tuple[float, float], ...],
    default: float,
    description: str,
    scale: Scale = "linear",
) -> Parameter:
    """A parameter whose bounds are the outermost of its ranges and its default."""
    ends = [end for interval in (train, *out) for end in interval] + [default]
    return Parameter(
        name=name,
        unit=unit,
        low=min(ends),
        high=max(ends),
        default=default,
        train=(train,),
        out=out,
        description=description,
        scale=scale,
    )
