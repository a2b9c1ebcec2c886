"""Whether a declared field of MuJoCo's model has any effect: a field that nothing in the model reads is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.fields import ModelField
from metamap_envs.from_gymnasium.targets import Target
from metamap_envs.parameters import Parameter

__all__ = ["check_effects"]

_BITS = mujoco.mjtDisableBit
_DISABLED_BY = {
    "gravity": (_BITS.mjDSBL_GRAVITY,),
    "damping": (_BITS.mjDSBL_DAMPER,),
    "stiffness": (_BITS.mjDSBL_SPRING,),
    "frictionloss": (_BITS.mjDSBL_FRICTIONLOSS, _BITS.mjDSBL_CONSTRAINT),
    "geom": (_BITS.mjDSBL_CONTACT, _BITS.mjDSBL_CONSTRAINT),
    "actuator": (_BITS.mjDSBL_ACTUATION,),
}
"""Flags of the model's option, any of which switches off a field or all fields of a kind of object."""
_LEAST_CONDIM = (3, 4, 6)
"""Of a contact in which sliding, torsional and rolling friction act."""
_NO_MIX = 1e-15  # MuJoCo's mjMINVAL: a smaller solmix is none


def check_effects(targets: Mapping[str, Target], parameters: Sequence[Parameter], model: Any) -> None:
    """Refuse fields of the model that have no effect at any value of their parameter.

    Only what follows from the model's structure is refused: a geom that could touch another but never does is not.

    Args:
        targets: of all parameters, by name.
        parameters: in the same order.
        model: the environment's own; None if it has none.

    Raises:
        MetaMapError: a field has no effect; the sentence names the object, the field and the reason.
    """
    fields = {name: target for name, target in targets.items() if isinstance(target, ModelField)}
    for parameter in parameters:
        if (target := fields.get(parameter.name)) is None:
            continue
        others = {each.field for name, each in fields.items() if name != parameter.name}
        if reason := _why_none(target, parameter, others, model):
            raise MetaMapError(f"parameter {parameter.name!r}: {target.label} changes nothing, as {reason}")


def _why_none(target: ModelField, parameter: Parameter, others: set[str], model: Any) -> str:
    """Why a field has no effect, as a clause; "" where it may have one."""
    for bit in _DISABLED_BY.get(target.field, _DISABLED_BY.get(target.kind, ())):
        if model.opt.disableflags & bit.value:
            return f"the model's option disables it ({bit.name})"
    objects = target.objects(model)
    if target.kind == "body" and not any(model.body_weldid[body] for body in objects):
        return "the body cannot move"
    if target.kind == "actuator":
        return _of_actuators(target, objects, model)
    if target.kind == "geom":
        return _of_contacts(target, parameter, others, model)
    still = not (model.opt.density or model.opt.viscosity or others & {"density", "viscosity"})
    if target.field == "wind" and still:
        return "density and viscosity are 0; declare one of them as an option, too"
    return ""


# actuators -----------------------------------------------------------------------------------------------------------


def _of_actuators(target: ModelField, actuators: Sequence[int], model: Any) -> str:
    groups = model.actuator_group
    if all(0 <= groups[each] <= 30 and model.opt.disableactuator >> groups[each] & 1 for each in actuators):
        return f"the model's option disables its group of actuators (actuatorgroupdisable {groups[actuators[0]]})"
    used = max(_gear_size(each, model) for each in actuators)
    if target.field == "gear" and target.index is not None and target.index >= used:
        return f"the actuator reads {used} of the 6 numbers of its gear"
    return ""


def _gear_size(actuator: int, model: Any) -> int:
    """How many numbers of its gear an actuator reads."""
    kind, kinds, joints = model.actuator_trntype[actuator], mujoco.mjtTrn, mujoco.mjtJoint
    if kind == kinds.mjTRN_SITE.value:
        return 6
    if kind not in (kinds.mjTRN_JOINT.value, kinds.mjTRN_JOINTINPARENT.value):
        return 1
    joint = model.jnt_type[model.actuator_trnid[actuator, 0]]
    return {joints.mjJNT_FREE.value: 6, joints.mjJNT_BALL.value: 3}.get(int(joint), 1)


# contacts ------------------------------------------------------------------------------------------------------------


def _of_contacts(target: ModelField, parameter: Parameter, others: set[str], model: Any) -> str:
    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_OVERRIDE.value:
        return "the model's option overrides the numbers of all contacts"
    geoms = target.objects(model)
    for pair in zip(model.pair_geom1.tolist(), model.pair_geom2.tolist(), strict=True):
        if {*geoms} & {*pair}:
            names = " and ".join(repr(model.geom(geom).name) for geom in pair)
            return f"the contact of {names} is a <pair>, which has numbers of its own"
    if model.nflex:  # geoms touch it by rules of their own
        return ""
    reasons = []
    for geom in geoms:
        for partner in _partners(geom, model):
            reason = _why_not_taken(target, parameter, others, model, (geom, partner))
            if not reason:
                return ""
            reasons.append(reason)
    return reasons[0] if reasons else "it touches nothing: see contype, conaffinity and <exclude>"


def _partners(geom: int, model: Any) -> Iterator[int]:
    """Geoms that a geom may touch, by the rules of `mj_collision`."""
    contype, conaffinity = model.geom_contype, model.geom_conaffinity
    masks = (contype[geom] & conaffinity) | (contype & conaffinity[geom])
    excluded = {(int(each) >> 16, int(each) & 0xFFFF) for each in model.exclude_signature}
    body = int(model.geom_bodyid[geom])
    for partner in np.flatnonzero(masks).tolist():
        other = int(model.geom_bodyid[partner])
        if not {(body, other), (other, body)} & excluded and not _never_meet(body, other, model):
            yield partner


def _never_meet(body: int, other: int, model: Any) -> bool:
    """Whether two bodies are welded together, or one is the other's parent, which MuJoCo leaves out by default."""
    one, two = int(model.body_weldid[body]), int(model.body_weldid[other])
    if one == two:
        return True
    if model.opt.disableflags & _BITS.mjDSBL_FILTERPARENT.value or 0 in (one, two):
        return False
    parents = [int(model.body_weldid[model.body_parentid[each]]) for each in (one, two)]
    return one == parents[1] or two == parents[0]


def _why_not_taken(
    target: ModelField, parameter: Parameter, others: set[str], model: Any, contact: tuple[int, int]
) -> str:
    """Why the contact of a geom with another takes no number of the target from the first; "" where it may."""
    geom, partner = contact
    name, (mine, its) = model.geom(partner).name, (model.geom_priority[each] for each in contact)
    if its > mine:
        return f"geom {name!r}, which it touches, has the higher priority"
    if target.field == "friction":
        condim = model.geom_condim[geom] if mine > its else max(model.geom_condim[each] for each in contact)
        reads = [index for index in range(3) if target.index in (None, index) and condim >= _LEAST_CONDIM[index]]
        if not reads:
            return f"its contact with geom {name!r} has condim {condim}"
        if mine == its and "friction" not in others and partner not in target.objects(model):
            highest = {index: _highest(target, parameter, model, (geom, index)) for index in reads}
            if all(high <= model.geom_friction[partner, index] for index, high in highest.items()):
                return f"geom {name!r}, which it touches, has at least that friction, and the higher one counts"
        return ""
    mixes = [model.geom_solmix[each] for each in contact]
    if mine == its and mixes[0] < _NO_MIX <= mixes[1] and not _may_be_direct(target, parameter, others, model, contact):
        return "its solmix is 0"
    return ""


def _highest(target: ModelField, parameter: Parameter, model: Any, place: tuple[int, int]) -> float:
    """The highest friction that a geom is given."""
    return float(parameter.high * model.geom_friction[place] if target.scale else parameter.high)


def _may_be_direct(
    target: ModelField, parameter: Parameter, others: set[str], model: Any, contact: tuple[int, int]
) -> bool:
    """Whether solref may be negative in one of two geoms: MuJoCo takes the lower one then and does not mix them."""
    if target.field != "solref":
        return False
    return bool(parameter.low <= 0 or "solref" in others or (model.geom_solref[list(contact), 0] <= 0).any())
