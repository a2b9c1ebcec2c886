"""The ranges of CaDM's factors on physics (Lee et al., 2020), shared by the families that use them."""

from __future__ import annotations

from metamap_envs.parameters import Parameter

__all__ = ["cadm_factor"]


def cadm_factor(name: str, description: str) -> Parameter:
    """A factor of .75 to 1.25 in training and in CaDM's moderate bands outside; the bounds admit its extreme bands."""
    return Parameter(
        name=name,
        unit="1",
        low=0.2,
        high=1.8,
        default=1.0,
        train=((0.75, 1.25),),
        out=((0.4, 0.5), (1.5, 1.6)),
        description=description,
    )
