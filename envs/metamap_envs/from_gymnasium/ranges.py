"""The parameter of a family that an entry of its declaration describes."""

from __future__ import annotations

from metamap_envs.from_gymnasium.declaration import ParameterEntry
from metamap_envs.parameters import Parameter

__all__ = ["parameter_of"]


def parameter_of(name: str, entry: ParameterEntry, own: float, what: str) -> Parameter:
    """The parameter, with bounds that hold every value of its splits and the default, unless declared.

    Args:
        name: its name.
        entry: its declaration.
        own: its default, unless the entry has one.
        what: what it writes, for a description where there is none.
    """
    default = own if entry.default is None else entry.default
    inside = [*entry.choices, default, *(end for interval in entry.train + entry.out for end in interval)]
    return Parameter(
        name=name,
        unit=entry.unit,
        low=min(inside) if entry.low is None else entry.low,
        high=max(inside) if entry.high is None else entry.high,
        default=default,
        train=entry.train,
        out=entry.out,
        choices=entry.choices,
        description=entry.description or what,
        periodic=entry.periodic,
        categorical=entry.categorical,
        scale=entry.scale,
    )
