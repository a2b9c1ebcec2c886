"""Fields of a compiled model without a specification, e.g. one that was loaded from a binary file."""

from __future__ import annotations

from typing import Any

import numpy as np

from metamap_envs.errors import MetaMapError

__all__ = ["check_live"]

_INERTIAL = ("mass", "inertia", "armature")
_MOVING = (*_INERTIAL, "damping", "frictionloss", "stiffness", "gear")


def check_live(model: Any, field: str) -> None:
    """Refuse a field from which the compiler may have derived what `mj_setConst` does not derive again.

    Args:
        model: the environment's.
        field: to be written.

    Raises:
        MetaMapError: the model has something that may depend on the field; the sentence says what.
    """
    why = _doubt(model, field)
    if why:
        raise MetaMapError(
            f"{field!r}: {why}, which the compiled model does not show; let the environment's constructor load "
            "it with MjModel.from_xml_path or from_xml_string"
        )


def _doubt(model: Any, field: str) -> str:
    """What may depend on a field; empty if nothing does."""
    if field in _MOVING and np.any(model.actuator_lengthrange):
        return "the compiler may have computed the range of a muscle's length with it"
    if field in (*_INERTIAL, "gear", "kp"):
        servos = np.flatnonzero(model.actuator_gainprm[:, 0] == -model.actuator_biasprm[:, 1])
        if any(model.actuator_biasprm[servo, 2] < 0 for servo in servos):
            return "the compiler may have computed a servo's damping from it (dampratio)"
    if field in _INERTIAL and any(
        model.jnt_stiffness[joint] and model.dof_damping[model.jnt_dofadr[joint]] for joint in range(model.njnt)
    ):
        return "the compiler may have computed a joint's stiffness and damping from it (springdamper)"
    return ""
