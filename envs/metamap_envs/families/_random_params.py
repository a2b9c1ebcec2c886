"""The random parameters of PEARL's and VariBAD's Hopper and Walker, shared by those families."""

from __future__ import annotations

import mujoco

from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.task import Task

__all__ = ["POWERS", "scale_by_powers"]

_BASE = 1.5  # of mass, inertia and friction
_DAMPING_BASE = 1.3


def _power(name: str, base: float, what: str) -> Parameter:
    return Parameter(
        name=f"{name}_power",
        unit="1",
        low=-4.0,
        high=4.0,
        default=0.0,
        train=((-3.0, 3.0),),
        out=((-4.0, -3.0), (3.0, 4.0)),
        description=f"{what} is times {base} to this power",
    )


POWERS = ParameterSpace(
    (
        _power("mass", _BASE, "the mass of each body"),
        _power("inertia", _BASE, "the inertia of each body"),
        _power("friction", _BASE, "the friction of each geom"),
        _power("damping", _DAMPING_BASE, "the damping of each joint"),
    )
)
"""One power for all of a kind, where the sources draw one for every body, joint and geom."""


def scale_by_powers(model: mujoco.MjModel, task: Task) -> None:
    """Scale the four quantities; `mj_setConst` must follow."""
    model.body_mass[:] *= _BASE ** task["mass_power"]
    model.body_inertia[:] *= _BASE ** task["inertia_power"]
    model.geom_friction[:] *= _BASE ** task["friction_power"]
    model.dof_damping[:] *= _DAMPING_BASE ** task["damping_power"]
